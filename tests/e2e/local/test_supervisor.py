"""The real supervisor with parts that stand for the real ones, and with the real API server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kaito_ray.local import processes, supervisor, up
from kaito_ray.local.home import AlreadyRunning, Home, write_json
from kaito_ray.local.processes import CLUSTERS_MARKER

RUN = """
import sys, json
from pathlib import Path
from kaito_ray.local.home import Home
from kaito_ray.local.supervisor import Part, Supervisor
home = Home.at(Path(sys.argv[1]))
Supervisor(home, [Part(n, tuple(c), o) for n, c, o in json.loads(sys.argv[2])]).run()
"""
FOREVER = [sys.executable, "-c", "import time; time.sleep(600)"]


def until(condition: Callable[[], object], timeout_s: float = 20) -> object:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about in time")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home.at(tmp_path / "home")
    yield home
    up.down(home.root)
    assert processes.marked(supervisor.PART_MARKER, str(home.root)) == []


def start(home: Home, *parts: tuple[str, list[str], bool]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(home.root), json.dumps(parts)])


def pids(home: Home) -> dict[str, int]:
    return {p.name: p.pid for p in up.state(home.root).parts if p.running}


def test_what_dies_is_started_again(home):
    child = start(home, ("apiserver", FOREVER, False), ("operator", FOREVER, False))
    first = until(lambda: (now := pids(home)).keys() == {"apiserver", "operator"} and now)

    os.kill(first["operator"], signal.SIGKILL)

    second = until(lambda: (now := pids(home)).get("operator") not in (None, first["operator"]) and now)
    assert second["apiserver"] == first["apiserver"]
    assert {p.name: p.restarts for p in up.state(home.root).parts} == {"apiserver": 0, "operator": 1}
    up.down(home.root)
    assert child.wait() == 0


def test_what_follows_a_task_waits_for_its_success(home, tmp_path):
    flag = tmp_path / "flag"
    once = [sys.executable, "-c", f"import pathlib, sys; sys.exit(not pathlib.Path({str(flag)!r}).exists())"]
    child = start(home, ("apiserver", FOREVER, False), ("install", once, True), ("operator", FOREVER, False))
    until((home.logs / "install.log").exists)
    time.sleep(1)
    assert "operator" not in pids(home)
    assert not up.state(home.root).ready

    flag.touch()

    until(lambda: "operator" in pids(home) and up.state(home.root).ready)
    up.down(home.root)
    child.wait()


def test_down_ends_everything_and_the_ray_clusters_too(home, tmp_path):
    session = tmp_path / "session"
    session.mkdir()
    write_json(home.ray / "default_phi" / "head.json", {"pid": 0, "started": 0, "session": str(session)})
    child = start(home, ("machine", FOREVER, False))
    ray = subprocess.Popen(FOREVER, env={**os.environ, CLUSTERS_MARKER: str(home.ray)}, start_new_session=True)
    until(lambda: pids(home))

    up.down(home.root)

    assert child.wait() == 0
    assert ray.wait() != 0
    assert not session.exists()
    assert not up.state(home.root).running


def test_a_killed_supervisor_leaves_nothing_that_the_next_one_does_not_end_but_ray_goes_on(home):
    child = start(home, ("machine", FOREVER, False))
    ray = subprocess.Popen(FOREVER, env={**os.environ, CLUSTERS_MARKER: str(home.ray)}, start_new_session=True)
    left = until(lambda: pids(home))["machine"]
    child.kill()
    child.wait()
    assert processes.identify(left)

    again = start(home, ("machine", FOREVER, False))

    until(lambda: pids(home).get("machine") not in (None, left))
    assert processes.identify(left) is None
    assert ray.poll() is None
    up.down(home.root)
    again.wait()
    ray.wait()


def test_a_second_up_is_refused_by_name_of_the_first(home):
    child = start(home, ("apiserver", FOREVER, False))
    until(lambda: pids(home))

    with pytest.raises(AlreadyRunning, match=f"process {child.pid}"):
        up.up(home.root, detach=True)
    second = subprocess.run(
        [sys.executable, "-m", "kaito_ray.local.supervisor", "--home", str(home.root)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 1
    assert f"process {child.pid}" in second.stderr
    up.down(home.root)
    child.wait()


def test_down_of_what_never_ran_is_no_error(home, tmp_path):
    up.down(home.root)
    up.down(tmp_path / "nowhere")

    assert not up.state(tmp_path / "nowhere").running


def test_a_control_plane_that_cannot_start_says_why(home, monkeypatch):
    broken = [sys.executable, "-c", "raise SystemExit('the disk is full')"]
    monkeypatch.setattr(up, "_START_TIMEOUT_S", 3.0)
    monkeypatch.setattr(
        up,
        "_supervisor",
        lambda place: [sys.executable, "-c", RUN, str(place.root), json.dumps([("apiserver", broken, False)])],
    )

    with pytest.raises(up.StartFailed, match="the disk is full"):
        up.up(home.root, detach=True)

    assert not up.state(home.root).running
