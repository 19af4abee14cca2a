"""One Workspace tunes, a second one serves what it made: with kubectl alone, on one machine."""

import functools
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.e2e.conftest import Plane
from tests.e2e.tuning.conftest import ANSWER, QUESTION
from tests.registry import RunningRegistry

pytestmark = pytest.mark.engine

PRESET = "smollm2-135m-instruct"
TRAINING = {
    "training_config": {
        "TrainingArguments": {"max_steps": 12, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
        "DatasetConfig": {"train_test_split": 0.9},
    }
}


@pytest.fixture
def url(data: Path) -> Iterator[str]:
    """Serve the data over HTTP; the machine's own name is no public one, so the operator is told to trust it."""
    name = socket.gethostname()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(data))
    with http.server.ThreadingHTTPServer((socket.gethostbyname(name), 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{name}:{server.server_port}/train.parquet"
        server.shutdown()


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    local_directory(find(PRESET).source)
    monkeypatch.setenv("KAITO_RAY_DATA_ALLOW", socket.gethostname())
    running = Plane(tmp_path / "home")
    try:
        running.cli("up", "--detach")
        yield running
    finally:
        running.cli("down")


def workspace(name: str, **work: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name},
        "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
        **work,
    }


def until(plane: Plane, name: str, holds: Callable[[dict[str, Any]], bool], *, timeout_s: float) -> dict[str, Any]:
    """Return the Workspace's status once `holds` does."""
    end = time.monotonic() + timeout_s
    while True:
        status: dict[str, Any] = plane.get("workspace", name).get("status") or {}
        if holds(status):
            return status
        assert status.get("state") != "Failed", json.dumps(status, indent=1)
        assert time.monotonic() < end, json.dumps(status, indent=1)
        time.sleep(1)


def test_what_one_workspace_learns_another_one_serves(plane: Plane, url: str, registry: RunningRegistry) -> None:
    assert registry.credentials is not None
    user, password = registry.credentials
    image = registry.image("team/atlantis:1")
    login = [f"--docker-server={registry.host}", f"--docker-username={user}", f"--docker-password={password}"]
    plane.kubectl("create", "secret", "docker-registry", "push", *login)
    config = {"training_config.yaml": json.dumps(TRAINING)}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tune"}, "data": config}
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(config_map))
    tuning = {
        "preset": {"name": PRESET},
        "method": "qlora",
        "config": "tune",
        "input": {"urls": [url]},
        "output": {"image": image, "imagePushSecret": "push"},
    }
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(workspace("tune", tuning=tuning)))

    running = until(plane, "tune", lambda s: (s.get("tuning") or {}).get("step", 0) > 0, timeout_s=240)
    assert running["state"] == "Running"
    assert running["tuning"]["steps"] == 12
    done = until(plane, "tune", lambda s: s.get("state") == "Succeeded", timeout_s=240)
    assert done["tuning"]["evalLoss"] < 1.0
    assert done["tuning"]["output"].startswith(registry.image("team/atlantis@sha256:"))
    assert plane.get("nodepools")["items"] == [], "the machine is given back"

    source = {"name": "atlantis", "workspace": "tune"}
    serving = {"preset": {"name": PRESET}, "adapters": [{"source": source}]}
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(workspace("serve", inference=serving)))
    ready = until(plane, "serve", lambda s: s.get("state") == "Ready", timeout_s=300)
    until(
        plane,
        "serve",
        lambda s: [a["state"] for a in s.get("adapters") or ()] == ["Ready"],
        timeout_s=60,
    )

    with httpx.Client(base_url=ready["endpoint"], timeout=120) as client:

        def ask(model: str, question: str) -> str:
            message = {"role": "user", "content": question}
            body = {"model": model, "messages": [message], "temperature": 0, "max_tokens": 24}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["message"]["content"])

        assert ANSWER in ask("atlantis", QUESTION)
        assert ANSWER not in ask(PRESET, QUESTION)
        assert "Paris" in ask("atlantis", "What is the capital of France?")
