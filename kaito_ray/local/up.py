"""`up`, `down` and `state`: the control plane of this machine, as the command line sees it."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from kaito_ray import __version__
from kaito_ray.errors import KaitoRayError
from kaito_ray.local import processes, supervisor
from kaito_ray.local.home import AlreadyRunning, Home, read_json
from kaito_ray.local.processes import Process

_START_TIMEOUT_S: Final = 90.0
_STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1
_SETTLE_S: Final = 1.0
_LOG_LINES: Final = 20


class StartFailed(KaitoRayError):
    """The control plane did not come up; the message holds the last lines of the log that says why."""

    reason = "StartFailed"


class StillRunning(KaitoRayError):
    """Processes of the control plane did not end."""

    reason = "StillRunning"

    def __init__(self, left: list[Process]) -> None:
        named = "; ".join(f"{p.pid} ({processes.command(p)[:80]})" for p in left)
        super().__init__(f"these processes did not end: {named}; `kill -9` them, then run `kaito-ray down` again")


@dataclass(frozen=True)
class PartState:
    """One process of the control plane."""

    name: str
    """`apiserver`, `machine` or `operator`."""
    pid: int | None
    """Absent while it waits to be started again."""
    running: bool
    """Whether that very process runs."""
    restarts: int
    """How often it was started again."""


@dataclass(frozen=True)
class ControlPlaneState:
    """The control plane of one home."""

    home: str
    """KAITO_RAY_HOME."""
    running: bool
    """Whether a supervisor holds the home."""
    ready: bool
    """Whether it runs, and every part of it does."""
    pid: int | None
    """The supervisor."""
    server: str | None
    """Address of the API server."""
    parts: tuple[PartState, ...]
    """Its processes."""
    version: str = __version__
    """Version of this program."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def up(home: Path, *, detach: bool) -> None:
    """Start the control plane; in the foreground this process becomes its supervisor, and does not return.

    Raises:
        AlreadyRunning: one runs in that home.
        StartFailed: it did not come up in time.
    """
    place = Home.at(home)
    if (pid := place.holder()) is not None:
        raise AlreadyRunning(place.root, pid)
    command = _supervisor(place)
    if not detach:
        sys.stdout.flush()
        os.execv(command[0], command)  # noqa: S606 our own interpreter, and no shell
    _wait_until_ready(place, processes.spawn(command, os.environ, _log(place), session=True))


def down(home: Path) -> None:
    """Stop every process of the control plane, Ray included; what is stored stays. Nothing happens where none runs.

    Raises:
        StillRunning: something did not end.
    """
    if not home.exists():
        return
    place = Home.at(home)
    if (pid := place.holder()) and (process := processes.identify(pid)):
        processes.send(process, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while processes.alive(process) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        processes.stop([process], patience_s=0.0)
    left = [*supervisor.stop_parts(place), *supervisor.stop_ray(place)]
    if left:
        raise StillRunning(left)
    place.record.unlink(missing_ok=True)


def state(home: Path) -> ControlPlaneState:
    """Return what runs; reads files and the process table, asks nobody."""
    place = Home(home.expanduser().resolve())
    pid = place.holder()
    record = read_json(place.record) if pid else {}
    parts = tuple(_part(name, entry) for name, entry in record.get("parts", {}).items())
    return ControlPlaneState(
        home=str(place.root),
        running=pid is not None,
        ready=bool(record.get("ready")) and all(p.running for p in parts),
        pid=pid,
        server=_server(place),
        parts=parts,
    )


def _supervisor(place: Home) -> list[str]:
    return [sys.executable, "-m", "kaito_ray.local.supervisor", "--home", str(place.root)]


def _part(name: str, entry: dict[str, Any]) -> PartState:
    pid = entry.get("pid")
    running = pid is not None and processes.alive(Process(pid, entry.get("started") or 0))
    return PartState(name, pid, running, entry.get("restarts", 0))


def _server(place: Home) -> str | None:
    """Return the API server's address from the kubeconfig, whose lines are simple, without a YAML parser."""
    try:
        lines = place.kubeconfig.read_text().splitlines()
    except FileNotFoundError:
        return None
    return next((line.split("server:", 1)[1].strip() for line in lines if "server:" in line), None)


def _wait_until_ready(place: Home, process: Process) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if (now := state(place.root)).ready:
            time.sleep(_SETTLE_S)  # what cannot start ends within that time
            if state(place.root).parts == now.parts:
                return
        if not processes.alive(process):
            raise StartFailed(f"the control plane ended at once:\n{_tail(_log(place))}")
        time.sleep(_POLL_S)
    now = state(place.root)
    missing = [p.name for p in now.parts if not p.running] or ["install"]
    processes.stop([process], patience_s=_STOP_TIMEOUT_S)
    raise StartFailed(
        f"{', '.join(missing)} did not start within {_START_TIMEOUT_S:.0f} s:\n"
        f"{_tail(place.logs / f'{missing[0]}.log')}"
    )


def _log(place: Home) -> Path:
    return place.logs / "supervisor.log"


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    except FileNotFoundError:
        return f"({path} does not exist)"
