"""Real processes, found by their marker and ended to the last, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kaito_ray.local import processes
from kaito_ray.local.processes import Process

MARKER = "KAITO_RAY_TEST_MARKER"
FOREVER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"
WITH_ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {FOREVER!r}]); sys.exit()"


@pytest.fixture
def marker(request: pytest.FixtureRequest) -> Iterator[str]:
    value = f"{os.getpid()}-{request.node.name}"
    yield value
    assert processes.stop_marked(MARKER, value, patience_s=0) == []


def start(code: str, marker: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, MARKER: marker}, start_new_session=True)


def marked(marker: str, count: int) -> list[Process]:
    """Wait until so many carry the marker: between fork and exec a child still has its parent's environment."""
    for _ in range(200):
        if len(found := processes.marked(MARKER, marker)) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"expected {count} processes, found {found}")


def test_an_orphan_is_found_and_ended_by_the_marker_it_inherited(marker):
    start(WITH_ORPHAN, marker).wait()
    (orphan,) = marked(marker, 1)

    assert processes.stop_marked(MARKER, marker, patience_s=5) == []
    assert not processes.alive(orphan)


def test_a_process_that_ignores_the_request_is_killed(marker):
    child = start(STUBBORN, marker)
    time.sleep(0.5)

    assert processes.stop_marked(MARKER, marker, patience_s=0.2) == []
    assert child.wait() == -9


def test_other_markers_are_left_alone(marker):
    child = start(FOREVER, marker)
    marked(marker, 1)

    assert processes.stop_marked(MARKER, marker[:-1], patience_s=0) == []
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_pid_that_was_given_to_another_process_is_not_touched(marker):
    child = start(FOREVER, marker)
    me = processes.identify(child.pid)
    former = Process(child.pid, me.started - 1)

    assert not processes.alive(former)
    assert processes.stop([former], patience_s=0) == []
    assert child.poll() is None
    child.kill()
    child.wait()


def test_a_process_that_has_ended_but_was_not_waited_for_counts_as_dead(marker):
    child = start("pass", marker)
    while processes.identify(child.pid):
        time.sleep(0.02)
    child.wait()
    assert processes.identify(child.pid) is None
