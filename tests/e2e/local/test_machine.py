"""A RayService carried out on this machine: real API server, real agent, real Ray, a trivial application."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import yaml

from kaito_ray.local import processes, up
from kaito_ray.local.home import Home
from kaito_ray.local.processes import CLUSTERS_MARKER

pytestmark = pytest.mark.engine

PLANE = """
import sys
from pathlib import Path
from kaito_ray.local.home import Home
from kaito_ray.local.supervisor import Supervisor, parts
home = Home.at(Path(sys.argv[1]))
Supervisor(home, [part for part in parts(home) if part.name != "operator"]).run()
"""
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}


def ray_service(name: str, *, greeting: str = "hello", variant: str = "1") -> dict[str, Any]:
    application = {
        "name": "greeter",
        "route_prefix": "/",
        "import_path": "greeter:build_app",
        "deployments": [{"name": "Greeter", "user_config": {"greeting": greeting}}],
    }
    env = {
        "PYTHONPATH": str(Path(__file__).parent),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "VARIANT": variant,
    }
    container = {
        "name": "ray",
        "image": "none",
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "ports": [{"name": k, "containerPort": v} for k, v in PORTS.items()],
        "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "serveConfigV2": yaml.safe_dump({"applications": [application]}),
            "rayClusterDeletionDelaySeconds": 2,
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "authOptions": {"mode": "token"},
                "headGroupSpec": {"rayStartParams": {}, "template": template},
            },
        },
    }


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": name, "ray.io/serve": "true"}, "ports": [{"port": 80, "targetPort": "serve"}]},
    }


@dataclass
class Machine:
    home: Home
    supervisors: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        self.supervisors.append(subprocess.Popen([sys.executable, "-c", PLANE, str(self.home.root)]))
        until(lambda: up.state(self.home.root).ready)

    def kubectl(self, *words: str, stdin: str = "") -> str:
        env = {**os.environ, "KUBECONFIG": str(self.home.kubeconfig), "HOME": str(self.home.root.parent)}
        done = subprocess.run(
            ["kubectl", *words], env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"kubectl {words}: {done.stderr}"
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def items(self, kind: str) -> list[dict[str, Any]]:
        return list(self.get(kind)["items"])

    def pod(self, name: str) -> dict[str, Any]:
        (pod,) = self.get("pods", "-l", f"app={name}")["items"]
        return dict(pod)

    def head_pid(self, name: str) -> int:
        return int(self.pod(name)["status"]["containerStatuses"][0]["containerID"].removeprefix("process://"))

    def ready(self, name: str) -> bool:
        conditions = self.get("rayservice", name).get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def url(self, name: str) -> str | None:
        found = self.get("service", name).get("status", {}).get("loadBalancer", {}).get("ingress")
        return f"http://{found[0]['ip']}:{found[0]['ports'][0]['port']}/" if found else None

    def answer(self, name: str) -> dict[str, Any] | None:
        """What the published address answers, or None where there is none, or nobody answers."""
        try:
            response = httpx.get(url, timeout=5) if (url := self.url(name)) else None
        except httpx.HTTPError:
            return None
        return response.json() if response is not None and response.is_success else None

    def ray_processes(self) -> list[processes.Process]:
        return processes.marked(CLUSTERS_MARKER, str(self.home.ray))


def until(condition: Callable[[], Any], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not come about in time")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(Home.at(tmp_path_factory.mktemp("machine") / "home"))
    machine.start()
    try:
        yield machine
    finally:
        up.down(machine.home.root)
        for supervisor in machine.supervisors:
            supervisor.wait()
        assert machine.ray_processes() == []


@pytest.fixture(scope="module")
def served(machine: Machine) -> Machine:
    """The machine with the RayService `hi` answering."""
    machine.apply(ray_service("hi"), service("hi"))
    until(lambda: machine.ready("hi") and machine.answer("hi"))
    return machine


def test_a_ray_service_answers_where_its_service_says(served):
    assert served.answer("hi")["greeting"] == "hello"
    status = served.get("rayservice", "hi")["status"]
    applications = status["activeServiceStatus"]["applicationStatuses"]
    assert applications["greeter"]["status"] == "RUNNING"
    assert (status["numServeEndpoints"], status["serviceStatus"]) == (1, "Running")


def test_kubectl_shows_the_pod_its_node_and_what_the_application_prints(served):
    pod = served.pod("hi")["metadata"]["name"]
    line = served.kubectl("get", "pod", pod, "-o", "wide").splitlines()[1].split()

    assert line[1:3] == ["1/1", "Running"]
    assert served.items("nodes")[0]["metadata"]["name"] in line
    assert "the greeter is here" in served.kubectl("logs", pod)
    assert "Ready" in served.kubectl("describe", "pod", pod)


def test_every_socket_that_listens_is_on_loopback_but_one_of_a_replica_which_wants_the_token(served):
    """Ray binds wide by default, and HAProxy's metrics and statistics pages always: see ADR 8."""
    wide = [
        (c.type, psutil.Process(p.pid).cmdline()[0], c.laddr.port)
        for p in served.ray_processes()
        for c in psutil.Process(p.pid).net_connections("inet")
        if c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
        and c.laddr.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    ]
    ((name, port),) = [(name, port) for kind, name, port in wide if kind == socket.SOCK_STREAM]
    assert [found for found in wide if found[0] == socket.SOCK_DGRAM] == []
    assert name.startswith("ray::ServeReplica")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_no_other_user_can_reach_haproxys_admin_socket_or_read_the_token(served):
    (record,) = served.home.ray.glob("*/cluster.json")
    (bound,) = [
        c.laddr
        for p in served.ray_processes()
        for c in psutil.Process(p.pid).net_connections("unix")
        if "admin.sock" in str(c.laddr)
    ]
    admin = Path(bound).parent / "admin.sock"
    session = next(p for p in admin.parents if p.parent.name.startswith("kr-"))
    assert admin.stat().st_mode & 0o077 == 0
    assert session.parent.stat().st_mode & 0o077 == 0
    assert (record.parent / "token").stat().st_mode & 0o077 == 0
    token = (record.parent / "token").read_text()
    assert not [p for p in served.ray_processes() if token in processes.command(p)]


def test_rays_rest_wants_the_token(served):
    ports = served.pod("hi")["spec"]["containers"][0]["ports"]
    dashboard = next(p["hostPort"] for p in ports if p["name"] == "dashboard")
    assert httpx.get(f"http://127.0.0.1:{dashboard}/api/serve/applications/").status_code == 401


def test_a_changed_serve_config_is_served_by_the_same_process(served):
    before = served.answer("hi")["pid"]

    served.apply(ray_service("hi", greeting="good evening"))

    until(lambda: (served.answer("hi") or {}).get("greeting") == "good evening")
    assert served.answer("hi")["pid"] == before


def test_a_killed_agent_finds_its_ray_cluster_again(served):
    head, replica = served.head_pid("hi"), served.answer("hi")["pid"]
    agent = next(p.pid for p in up.state(served.home.root).parts if p.name == "machine")

    os.kill(agent, signal.SIGKILL)

    until(lambda: next(p.pid for p in up.state(served.home.root).parts if p.name == "machine") not in (agent, None))
    served.apply(ray_service("hi", greeting="after the agent"))
    until(lambda: (served.answer("hi") or {}).get("greeting") == "after the agent")
    assert (served.head_pid("hi"), served.answer("hi")["pid"]) == (head, replica)


def test_a_killed_haproxy_comes_back(served):
    # One of an earlier configuration may still be draining.
    proxies = [p for p in served.ray_processes() if psutil.Process(p.pid).name() == "haproxy"]
    assert proxies
    for haproxy in proxies:
        processes.send(haproxy, signal.SIGKILL)

    until(lambda: not any(map(processes.alive, proxies)) and served.answer("hi"))


def test_a_killed_head_is_started_again_in_the_same_pod_and_serves(served):
    pod = served.pod("hi")["metadata"]["name"]
    head = served.head_pid("hi")

    os.kill(head, signal.SIGKILL)

    until(lambda: served.pod("hi")["status"]["containerStatuses"][0]["restartCount"] == 1)
    until(lambda: served.ready("hi") and served.answer("hi"))
    assert served.pod("hi")["metadata"]["name"] == pod


def test_two_services_run_side_by_side(served):
    served.apply(ray_service("ho", greeting="ho"), service("ho"))

    until(lambda: (served.answer("ho") or {}).get("greeting") == "ho")
    assert served.answer("hi")["greeting"] == "after the agent"
    served.kubectl("delete", "rayservice/ho", "service/ho", "--wait", "--timeout=60s")
    assert served.answer("hi")


def test_another_pod_template_moves_to_a_second_cluster_without_losing_a_request(served):
    old = served.get("rayservice", "hi")["status"]["activeServiceStatus"]["rayClusterName"]

    served.apply(ray_service("hi", greeting="moved", variant="2"))

    def moved() -> bool:
        assert served.answer("hi"), "a request was lost"
        active = served.get("rayservice", "hi")["status"]["activeServiceStatus"]
        return active["rayClusterName"] != old and len(served.items("rayclusters")) == 1

    until(moved)
    assert served.answer("hi")["greeting"] == "moved"


def test_after_everything_was_killed_the_next_start_serves_again(served):
    record = up.state(served.home.root)
    killed = [found for pid in (record.pid, *(p.pid for p in record.parts)) if (found := processes.identify(pid))]
    killed += served.ray_processes()
    for process in killed:
        processes.send(process, signal.SIGKILL)
    # Until the kernel has taken them down, the old record and its lock still say that all is well.
    until(lambda: not any(map(processes.alive, killed)))

    served.start()

    until(lambda: served.ready("hi") and (served.answer("hi") or {}).get("greeting") == "moved")


def test_down_and_up_keep_what_was_applied(served):
    up.down(served.home.root)
    assert served.ray_processes() == []

    served.start()

    until(lambda: served.ready("hi") and served.answer("hi"))


def test_a_deleted_service_leaves_no_object_no_process_and_no_file(served):
    sessions = [json.loads(r.read_text())["session"] for r in served.home.ray.glob("*/head.json")]
    assert sessions

    served.kubectl("delete", "rayservice/hi", "service/hi", "--wait", "--timeout=60s")

    until(lambda: not served.ray_processes())
    for kind in ("rayservices", "rayclusters", "pods", "secrets", "services"):
        assert served.items(kind) == []
    until(lambda: not list(served.home.ray.iterdir()))
    assert list(served.home.pods.iterdir()) == []
    assert not [path for path in sessions if Path(path).exists()]
