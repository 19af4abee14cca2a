"""What a start may not cost again: imports of vLLM in a row, and actors that nobody asked for (docs/adr/0013)."""

from __future__ import annotations

import httpx
import psutil
import pytest

from kaito_ray.api.status import ReplicaStart
from kaito_ray.local.ray_head import MARKER
from tests.e2e.serving.serve import Served

pytestmark = pytest.mark.engine


def processes(served: Served) -> dict[str, psutil.Process]:
    """The processes of this cluster, by the first word of their title."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER) == served.head.uid:
                found[process.cmdline()[0].split(":workspace")[0]] = process
        except (psutil.Error, IndexError):
            continue
    return found


def test_the_engine_is_forked_from_a_process_that_has_imported_vllm(served: Served) -> None:
    found = processes(served)
    core, worker, replica = found["VLLM::EngineCore"], found["VLLM::Worker"], found["ray::ServeReplica"]
    server = core.parent()
    assert server is not None
    assert "forkserver" in " ".join(server.cmdline())
    assert (worker.ppid(), server.ppid()) == (core.pid, replica.pid)


def test_ray_counts_no_models(served: Served) -> None:
    assert not [title for title in processes(served) if "Telemetry" in title]


def test_a_replica_says_when_it_had_its_weights_and_its_engine(http: httpx.Client) -> None:
    start = ReplicaStart.from_wire(http.get("/startup").json())
    assert start.weights <= start.engine
