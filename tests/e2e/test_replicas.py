"""Replicas of one Workspace come, go and die under load, down to none and back; no answer is lost but what a dead one began.

The tests of this file share one Workspace, and go in order.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import psutil
import pytest

from kaito_ray.local.ray_head import MARKER
from tests.e2e.clients import running
from tests.e2e.conftest import Plane
from tests.tiny_model import make_whole

pytestmark = pytest.mark.engine

MODEL = "my-org/my-model"
WAIT_S = 240.0


@dataclass
class Load:
    """Clients that ask one thing after the other, every third without streaming."""

    url: str
    whole: int = 0
    """Answers that came to their end."""
    broken: list[str] = field(default_factory=list)
    """Streams that ended after their first byte with an error that the client saw."""
    lost: list[str] = field(default_factory=list)
    """What must never be: a status other than 200, no answer, or a stream that ends as if it were whole."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def of(self, clients: int) -> Iterator[None]:
        self._stop.clear()
        with running(self._stop, [partial(self._client, stream=n % 3 > 0) for n in range(clients)]):
            yield

    def _client(self, *, stream: bool) -> None:
        with httpx.Client(base_url=self.url, timeout=WAIT_S) as http:
            while not self._stop.is_set():
                self.ask(http, stream=stream)

    def ask(self, http: httpx.Client, *, stream: bool, again: bool = True) -> None:
        """Ask once; again, as OpenAI's clients do, where a kept connection was closed without a word.

        HAProxy closes it so where a server resets the connection of a request that was not the first of its client's.
        """
        asked = {"model": "my-model", "prompt": "w3 w4", "max_tokens": 100, "ignore_eos": True, "stream": stream}
        text = ""
        try:
            with http.stream("POST", "/v1/completions", json=asked) as answer:
                for part in answer.iter_text():
                    text += part
        except httpx.HTTPError as error:
            if isinstance(error, httpx.RemoteProtocolError) and not text and again:
                self.ask(http, stream=stream, again=False)
                return
            (self.broken if text and stream else self.lost).append(repr(error))
            return
        if answer.status_code == 200 and (text.endswith("[DONE]\n\n") if stream else '"usage"' in text):
            self.whole += 1
        else:
            self.lost.append(f"{answer.status_code} {text[-200:]}")


@dataclass(frozen=True)
class Scaled:
    """The Workspace."""

    plane: Plane

    def apply(self, low: int) -> None:
        scaling = {
            "minReplicas": low,
            "maxReplicas": 2,
            "targetOngoingRequests": 2,
            "upscaleDelaySeconds": 1,
            "downscaleDelaySeconds": 5,
        }
        manifest = {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": "scaled"},
            "resource": {"labelSelector": {"matchLabels": {"apps": "scaled"}}},
            "inference": {"preset": {"name": MODEL}, "autoscaling": scaling},
        }
        self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.get("workspace", "scaled")["status"]
        return found

    def reaches(self, replicas: int) -> None:
        """Wait until so many are wanted and answer."""
        deadline = time.monotonic() + WAIT_S
        while (seen := self.status.get("replicas")) != {"desired": replicas, "ready": replicas}:
            assert time.monotonic() < deadline, f"{seen} instead of {replicas}"
            time.sleep(0.5)

    def clusters(self) -> list[str]:
        return [item["metadata"]["uid"] for item in self.plane.get("raycluster")["items"]]

    def processes(self, title: str) -> list[psutil.Process]:
        """Return the processes of the Ray cluster whose command line begins so."""
        (uid,) = self.clusters()
        return [
            p for p in psutil.process_iter() if _command(p).startswith(title) and _environment(p).get(MARKER) == uid
        ]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    with pytest.MonkeyPatch.context() as patch:
        models = tmp_path_factory.mktemp("models")
        make_whole(models / MODEL)
        patch.setenv("KAITO_RAY_MODELS_DIR", str(models))
        plane = Plane(tmp_path_factory.mktemp("scaled") / "home")
        try:
            plane.cli("up", "--detach")
            made = Scaled(plane)
            made.apply(low=1)
            plane.kubectl("wait", "workspace/scaled", "--for=condition=WorkspaceReady", "--timeout=240s", timeout_s=250)
            yield made
        finally:
            plane.cli("down")


@pytest.fixture
def load(scaled: Scaled) -> Load:
    return Load(scaled.status["endpoint"])


def test_by_load_there_is_another_replica_and_it_dies_and_is_replaced(scaled: Scaled, load: Load) -> None:
    before = scaled.clusters()
    with load.of(clients=6):
        scaled.reaches(2)
        assert (load.broken, load.lost) == ([], [])
        engines = len(scaled.processes("VLLM::EngineCore"))
        dies = scaled.processes("ray::ServeReplica")[0]
        os.kill(dies.pid, signal.SIGKILL)
        _until(lambda: not dies.is_running() and scaled.status["replicas"]["ready"] == 1)
        scaled.reaches(2)
    assert load.lost == [], "only streams that the dead replica had begun may end early"
    assert len(load.broken) <= 4, "no more than its clients"
    assert load.whole
    assert scaled.clusters() == before
    _until(lambda: len(scaled.processes("VLLM::EngineCore")) == engines)


def test_without_load_they_go_to_none_in_place_and_the_next_request_waits(scaled: Scaled, load: Load) -> None:
    before = scaled.clusters()
    with load.of(clients=1):
        scaled.apply(low=0)
        scaled.reaches(1)
    scaled.reaches(0)
    (serving,) = [c for c in scaled.status["conditions"] if c["type"] == "InferenceReady"]
    assert (serving["status"], serving["reason"]) == ("True", "ScaledToZero")
    assert "scaled to zero" in scaled.plane.kubectl("get", "workspace", "scaled", "--output=wide")
    with httpx.Client(base_url=load.url, timeout=WAIT_S) as http:
        load.ask(http, stream=True)
        load.ask(http, stream=False)
    assert (load.broken, load.lost) == ([], [])
    assert scaled.clusters() == before


def _until(holds: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)
