"""One real Ray cluster with our Serve application, as KubeRay would bring it up: ray start, then a PUT of the config."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from kaito_ray.render.rayservice import PROXY

READY_TIMEOUT_S = 240
CLIENT_TIMEOUT_S = 5
"""For how long a client may say nothing where it has the word."""
CONTAINER_ENVIRONMENT = {**PROXY, "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(CLIENT_TIMEOUT_S)}


@dataclass
class Served:
    """A running application."""

    head: RayHead
    code: Mapping[str, Any]
    """Its import path and arguments, as in a Serve config."""
    log: Path

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
        """Declare our application; only `user_config` differs between two calls."""
        config = (user_config or UserConfig()).to_wire()
        self.declare({"deployments": [{"name": names.DEPLOYMENT, "user_config": config}]})

    def declare(self, more: Mapping[str, Any]) -> None:
        """Declare the application with `more` beside its import path and arguments."""
        config = {
            "http_options": {"host": LOOPBACK, "port": self.head.ports.serve},
            "applications": [{"name": names.APPLICATION, "route_prefix": "/", **self.code, **more}],
        }
        with self.ray as ray:
            ray.put("/api/serve/applications/", json=config).raise_for_status()

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


@contextmanager
def serving(
    args: AppArgs,
    directory: Path,
    *,
    uid: str,
    mounts: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Bring our application up in a cluster of its own, and leave no process behind; `mounts` stands for `/`."""
    container = {**CONTAINER_ENVIRONMENT, **({MOUNT_ROOT: str(mounts)} if mounts else {}), **(environment or {})}
    with cluster(
        {"import_path": IMPORT_PATH, "args": args.to_wire()}, directory, uid=uid, container=container
    ) as served:
        served.put()
        served.wait()
        yield served


@contextmanager
def cluster(code: Mapping[str, Any], directory: Path, *, uid: str, container: Mapping[str, str]) -> Iterator[Served]:
    """Start a Ray cluster for an application that is not declared yet, and leave no process behind."""
    head = RayHead(uid=uid, directory=directory / "ray", ports=choose(uid, (), busy=listening()))
    served = Served(head, code, directory / "head.log")
    environment = ray_head.environment(head, container, os.environ)
    command = ray_head.start_command(head, {}, cpus=2, memory_bytes=None)
    head.directory.mkdir(parents=True)
    write_private(head.token_path, secrets.token_hex(32))
    try:
        ray_head.start(head, command, environment, served.log)
        _wait_for_dashboard(served)
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
