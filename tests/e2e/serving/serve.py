"""One real Ray cluster with our Serve application, as KubeRay would bring it up: ray start, then a PUT of the config."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from kaito_ray.api import names
from kaito_ray.api.app_args import IMPORT_PATH, MOUNT_ROOT, AppArgs, UserConfig
from kaito_ray.local import processes, ray_head
from kaito_ray.local.home import write_private
from kaito_ray.local.ports import LOOPBACK, choose, listening
from kaito_ray.local.processes import Process
from kaito_ray.local.ray_head import RayHead

READY_TIMEOUT_S = 240
CLIENT_TIMEOUT_S = 5
"""For how long a client may say nothing where it has the word."""
CONTAINER_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(CLIENT_TIMEOUT_S),
}


@dataclass
class Served:
    """A running application."""

    head: RayHead
    args: AppArgs
    log: Path
    seconds_to_ready: float = field(default=0.0)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.head.ports.serve}"

    @property
    def ray(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://{LOOPBACK}:{self.head.ports.dashboard}",
            headers={"x-ray-authorization": f"Bearer {self.head.token_path.read_text()}"},
            timeout=60,
        )

    def processes(self) -> list[Process]:
        """Every process of the cluster."""
        return processes.marked(ray_head.MARKER, self.head.uid)

    def put(self, user_config: UserConfig | None = None) -> None:
        """Declare the application; only `user_config` differs between two calls."""
        with self.ray as ray:
            ray.put("/api/serve/applications/", json=self._config(user_config or UserConfig())).raise_for_status()

    def application(self) -> dict[str, Any]:
        """Serve's own account of the application."""
        with self.ray as ray:
            return ray.get("/api/serve/applications/").raise_for_status().json()["applications"][names.APPLICATION]

    def wait(self, status: str = "RUNNING", *, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
        """Return the application once it has `status`."""
        deadline = time.monotonic() + timeout_s
        while (seen := self.application())["status"] != status:
            if seen["status"] == "DEPLOY_FAILED" or time.monotonic() > deadline:
                raise AssertionError(f"{seen['status']}: {seen['message']} {json.dumps(seen['deployments'])[:3000]}")
            time.sleep(0.25)
        return seen

    def _config(self, user_config: UserConfig) -> dict[str, Any]:
        return {
            "http_options": {"host": LOOPBACK, "port": self.head.ports.serve},
            "applications": [
                {
                    "name": names.APPLICATION,
                    "route_prefix": "/",
                    "import_path": IMPORT_PATH,
                    "args": self.args.to_wire(),
                    "deployments": [{"name": names.DEPLOYMENT, "user_config": user_config.to_wire()}],
                }
            ],
        }


@contextmanager
def serving(args: AppArgs, directory: Path, *, uid: str, mounts: Path | None = None) -> Iterator[Served]:
    """Bring the application up in a cluster of its own, and leave no process behind; `mounts` stands for `/`."""
    head = RayHead(uid=uid, directory=directory / "ray", ports=choose(uid, (), busy=listening()))
    served = Served(head, args, directory / "head.log")
    started = time.monotonic()
    container = {**CONTAINER_ENVIRONMENT, **({MOUNT_ROOT: str(mounts)} if mounts else {})}
    environment = ray_head.environment(head, container, os.environ)
    command = ray_head.start_command(head, {}, cpus=2, memory_bytes=None)
    head.directory.mkdir(parents=True)
    write_private(head.token_path, secrets.token_hex(32))
    try:
        ray_head.start(head, command, environment, served.log)
        _wait_for_dashboard(served)
        served.put()
        served.wait()
        served.seconds_to_ready = time.monotonic() - started
        yield served
    finally:
        assert ray_head.stop(head) == []


def _wait_for_dashboard(served: Served) -> None:
    for _ in range(240):
        try:
            with served.ray as ray:
                if ray.get("/api/serve/applications/").is_success:
                    return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise AssertionError(f"Ray did not start: {served.log.read_text()[-3000:]}")
