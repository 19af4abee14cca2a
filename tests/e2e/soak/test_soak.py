"""Everything changes by `kubectl apply` while streams never stop: nothing is lost, and nothing grows.

Adapters come and go, keys rotate, limits are edited, and the operator and the API server are killed once. Three minutes
here; `make soak` makes it half an hour. It judges behaviour, never speed.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.conftest import Plane
from tests.e2e.soak.growth import SERVING, Growth
from tests.e2e.soak.load import Load, stream
from tests.registry import running_registry
from tests.tiny_model import make_adapter, make_talking_base

SECONDS = float(os.environ.get("KAITO_RAY_SOAK_S", "130"))
"""Under load, all in all; the start and the end come on top."""
LONG = SECONDS >= 1800
STREAMS = 500
"""At least."""
CLIENTS = 4
MEMORY_SHARE, MEMORY_BYTES = (0.02, 8 * 2**20) if LONG else (0.1, 24 * 2**20)
"""How much a process may grow after its warm-up: this share of itself, and so many bytes, which small ones need."""
DESCRIPTORS = 8
MODEL = "soak-org/tiny"
SERVED = "tiny"
WORKSPACE = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "soak"},
    "resource": {"labelSelector": {"matchLabels": {"apps": "soak"}}},
}

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default"), pytest.mark.timeout(SECONDS + 900)]


@dataclass
class Stage:
    """A Workspace whose keys, limits and adapters change."""

    plane: Plane
    images: list[str]
    url: str = ""

    def apply(self, *, queued: int, keys: dict[str, str], coming: bool, round_: int = 0) -> None:
        """Bring all of it to the cluster at once, in the order in which a person would."""
        # Not `stringData`: what is left out there is not removed by `kubectl apply`.
        data = {name: base64.b64encode(key.encode()).decode() for name, key in keys.items()}
        secret = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "team-keys"}, "data": data}
        comes = _adapter("comes", self.images[round_ % 2], f"0.{1 + round_ % 9}")
        inference = {
            "preset": {"name": MODEL},
            "apiKeysSecret": "team-keys",
            "limits": {"maxQueued": queued},
            "adapters": [_adapter("stays", self.images[0], "1.0"), *([comes] if coming else [])],
        }
        manifests = [secret, {**WORKSPACE, "inference": inference}]
        self.plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def adapters(self, key: str) -> dict[str, str]:
        answer = self._get("/adapters", key)
        return {a["name"]: a["state"] for a in answer.json()["adapters"]} if answer.is_success else {}

    def accepts(self, key: str) -> bool:
        return self._get("/v1/models", key).is_success

    def _get(self, path: str, key: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=60)


def _adapter(name: str, image: str, strength: str) -> dict[str, Any]:
    return {"source": {"name": name, "image": image}, "strength": strength}


def until(holds: Callable[[], bool], what: str, *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A control plane of its own with a Workspace that serves, guarded by the key `key-0`."""
    files = tmp_path_factory.mktemp("soak")
    base = make_talking_base(files / "models" / MODEL)
    plane = Plane(files / "home")
    with running_registry(files / "registry") as registry, pytest.MonkeyPatch.context() as environment:
        environment.setenv("KAITO_RAY_MODELS_DIR", str(files / "models"))
        images = [
            registry.push_adapter(make_adapter(base, files / name, seed=seed), f"team/{name}:v1")
            for seed, name in enumerate(("one", "two"))
        ]
        stage = Stage(plane, images)
        try:
            plane.cli("up", "--detach")
            stage.apply(queued=64, keys={"a": "key-0"}, coming=False)
            plane.kubectl("wait", "workspace/soak", "--for=condition=WorkspaceReady", "--timeout=240s", timeout_s=250)
            stage.url = plane.cli("endpoint", "soak").strip()
            until(lambda: stage.adapters("key-0") == {"stays": "Ready"}, "the first adapter")
            yield stage
        finally:
            plane.cli("down")


def one_round(stage: Stage, load: Load, number: int) -> None:
    """Change everything once, and see that each change works, while the load goes on."""
    old, new, queued = load.key, f"key-{number}", 64 + number % 2
    both = {"a": old, "b": new}
    stage.apply(queued=queued, keys=both, coming=True, round_=number)
    until(lambda: stage.accepts(new), "the new key")
    load.use(new)
    until(lambda: stage.adapters(new) == {"stays": "Ready", "comes": "Ready"}, "the adapter that comes")
    with httpx.Client(base_url=stage.url, timeout=120) as http:
        assert stream(http, "comes", new) is None
    stage.apply(queued=queued, keys={"b": new}, coming=False)
    until(lambda: not stage.accepts(old), "the end of the old key")
    until(lambda: stage.adapters(new) == {"stays": "Ready"}, "the end of the adapter")


def kill(plane: Plane, part: str) -> None:
    """End a process of the control plane as a crash does, and wait for the next one."""

    def pid() -> int | None:
        found: int | None = json.loads((plane.home / "control-plane.json").read_text())["parts"][part]["pid"]
        return found

    first = pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: pid() not in (None, first), f"another {part}")


def admits(plane: Plane) -> bool:
    words = ["kubectl", "apply", "--dry-run=server", "--filename=-", "--request-timeout=5s"]
    manifest = json.dumps({**WORKSPACE, "inference": {"preset": {"name": MODEL}}}).encode()
    return subprocess.run(words, env=plane.env, input=manifest, capture_output=True, check=False).returncode == 0


def ready(plane: Plane) -> bool:
    found = plane.get("workspace", "soak")["status"]["conditions"]
    return any(c["type"] == "WorkspaceReady" and c["status"] == "True" for c in found)


def test_no_stream_is_lost_and_nothing_grows(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    plane = stage.plane
    service = plane.get("rayservice", "soak")
    cluster = service["status"]["activeServiceStatus"]["rayClusterName"]
    load, growth, rounds = Load(stage.url, (SERVED, "stays"), CLIENTS, "key-0"), Growth(plane.home), 1
    ends = time.monotonic() + SECONDS
    with load.running():
        until(lambda: load.whole >= CLIENTS, "the first streams")
        for part in ("operator", "apiserver"):
            kill(plane, part)
        until(lambda: admits(plane), "the API server, and the operator's webhook")
        one_round(stage, load, rounds)
        with growth.watched():
            while time.monotonic() < ends or load.whole < STREAMS:
                rounds += 1
                one_round(stage, load, rounds)
    grown = growth.grown()
    report = {
        "seconds": SECONDS,
        "clients": CLIENTS,
        "streams": load.whole,
        "lost": load.failures,
        "rounds": rounds,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "processes": [asdict(process) for process in grown],
    }
    with capsys.disabled():
        print(json.dumps({**report, "processes": [str(process) for process in grown]}, indent=1))
    if path := os.environ.get("KAITO_RAY_SOAK_JSON"):
        Path(path).write_text(json.dumps(report, indent=1) + "\n")
    assert load.failures == []
    assert load.whole >= STREAMS
    until(lambda: ready(plane), "WorkspaceReady")
    assert plane.get("rayservice", "soak")["status"]["activeServiceStatus"]["rayClusterName"] == cluster
    names = {process.name for process in grown}
    assert names == {"supervisor", "apiserver", "operator", "machine", *SERVING}
    for process in grown:
        allowed = process.before.memory_bytes * (1 + MEMORY_SHARE) + MEMORY_BYTES
        assert process.after.memory_bytes <= allowed, f"memory grows: {process}"
        assert process.after.descriptors <= process.before.descriptors + DESCRIPTORS, f"descriptors stay: {process}"
