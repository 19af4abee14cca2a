"""HAProxy as Ray Serve configures it and our wrapper starts it: a request whose replica dies is answered elsewhere."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kaito_ray.local import ray_head
from kaito_ray.local.ports import LOOPBACK, RayPorts, choose
from kaito_ray.local.ray_head import RayHead
from kaito_ray.render.rayservice import PROXY

WRITE_CONFIG = """
import json, sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
told = json.loads(sys.argv[1])
server = lambda port: ServerConfig(name=f"s{port}", host="127.0.0.1", port=port)
backend = BackendConfig(
    name="http-workspace", path_prefix="/", app_name="workspace",
    servers=[server(port) for port in told["replicas"]], fallback_server=server(told["fallback"]),
)
api = HAProxyApi(HAProxyConfig(http_options=HTTPOptions(host="127.0.0.1", port=told["port"])), config_file_path=told["file"])
api.set_backend_configs({backend.name: backend})
api._generate_config_file_internal()
"""
"""Run with the environment of a replica's pod, for Ray reads its options where it is imported."""


class Replica(ThreadingHTTPServer):
    """Answers by its name, or dies of the first request."""

    daemon_threads = True

    def __init__(self, name: str, *, dies: bool = False) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.name, self.dies = name, dies
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self) -> None:
        """Listen no more."""
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: HAProxy ends a health check as soon as it knows enough."""


class _Handler(BaseHTTPRequestHandler):
    server: Replica

    def do_GET(self) -> None:
        self._answer(b"well")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.server.dies:
            self.server.end()
            self.close_connection = True
        else:
            self._answer(self.server.name.encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def head(tmp_path: Path) -> Iterator[RayHead]:
    made = RayHead(uid=str(tmp_path), directory=tmp_path / "ray", ports=choose(str(tmp_path), ()))
    ray_head.prepare(made)
    yield made
    assert ray_head.stop(made) == []


@contextmanager
def proxied(head: RayHead, *replicas: Replica) -> Iterator[RayPorts]:
    """Start HAProxy in front of them, with a replica behind as the proxy that holds requests; yield its ports."""
    held = Replica("held")
    file = head.session / "haproxy" / "haproxy.cfg"
    env = ray_head.environment(head, PROXY, os.environ)
    told = {
        "replicas": [replica.server_port for replica in replicas],
        "fallback": held.server_port,
        "port": head.ports.serve,
        "file": str(file),
    }
    subprocess.run([sys.executable, "-c", WRITE_CONFIG, json.dumps(told)], env=env, check=True, capture_output=True)
    with subprocess.Popen(
        [head.directory / "haproxy", "-f", file, "-db"], env=env, stderr=subprocess.DEVNULL
    ) as haproxy:
        try:
            deadline = time.monotonic() + 60
            while not _listens(head.ports.serve):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield head.ports
        finally:
            haproxy.terminate()
    for replica in (*replicas, held):
        replica.end()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def ask(ports: RayPorts, body_bytes: int = 10) -> str:
    """Send a request, its body in a packet of its own as HTTP clients do; return the answer's status and body."""
    with socket.create_connection((LOOPBACK, ports.serve), timeout=60) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {body_bytes}\r\n\r\n"
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head.encode())
        time.sleep(0.05)
        connection.sendall(b"x" * body_bytes)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return f"{answer[9:12]} {answer.rpartition(chr(10))[2]}"


@pytest.mark.parametrize("body_bytes", [10, 60_000])
def test_it_is_answered_by_another_replica(head: RayHead, body_bytes: int) -> None:
    dies = Replica("dies", dies=True)
    with proxied(head, dies, Replica("other")) as ports:
        assert [ask(ports, body_bytes) for _ in range(4)] == ["200 other"] * 4
        assert dies.fileno() == -1, "it has died"


def test_of_a_lone_replica_it_waits_where_requests_are_held(head: RayHead) -> None:
    with proxied(head, Replica("dies", dies=True)) as ports:
        assert [ask(ports) for _ in range(3)] == ["200 held"] * 3


def test_one_that_no_buffer_holds_is_not_sent_again(head: RayHead) -> None:
    with proxied(head, Replica("dies", dies=True), Replica("other")) as ports:
        assert [ask(ports, 1_000_000) for _ in range(3)].count("200 other") == 2
