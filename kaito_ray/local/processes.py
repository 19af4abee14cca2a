"""Which processes are ours, and how they end: by what the kernel says of them, never by name.

A process is known by its pid and its start time, so that a pid which the kernel gave to somebody else is never touched.
What we start carries a marker in its environment, which every descendant inherits: after a crash of anything, of Ray
too, that marker finds exactly what is left (a raylet, HAProxy, an engine core), whoever its parent is by then.
Standard library only: the supervisor imports it and stays small.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito_ray.local.home import PRIVATE_FILE

PART_MARKER: Final = "KAITO_RAY_PART"
"""Marks the processes of a control plane, but not Ray's; its value is the home."""
CLUSTERS_MARKER: Final = "KAITO_RAY_CLUSTERS"
"""Marks the processes of every Ray cluster of a control plane; its value is the directory of the clusters."""

_PROC = Path("/proc")
_POLL_S = 0.05


@dataclass(frozen=True)
class Process:
    """One process, for as long as it lives."""

    pid: int
    started: int
    """Start time in clock ticks since boot: unlike a date, it stays the same when somebody sets the clock."""


def identify(pid: int) -> Process | None:
    """Return the live process with that pid; a zombie counts as dead."""
    try:
        # The command name, in parentheses, may itself hold spaces and parentheses.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]))


def spawn(command: Sequence[str], env: Mapping[str, str], log: Path, *, session: bool) -> Process:
    """Start a program with its output appended to `log`, readable by its owner alone, and no signal blocked.

    With `session` it outlives whoever started it and their terminal; without, it only gets a process group of its own,
    so that Ctrl-C is not for it.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    try:
        if session:
            pid = os.posix_spawn(command[0], list(command), env, file_actions=files, setsigmask=(), setsid=True)
        else:
            pid = os.posix_spawn(command[0], list(command), env, file_actions=files, setsigmask=(), setpgroup=0)
    finally:
        os.close(output)
    return identify(pid) or Process(pid, 0)


def alive(process: Process) -> bool:
    """Return whether that very process still runs."""
    return identify(process.pid) == process


def marked(name: str, value: str) -> list[Process]:
    """Return every process of this user, but this one, with `name=value` in its initial environment."""
    entry = f"{name}={value}".encode()
    found = []
    for pid in (int(p.name) for p in _PROC.iterdir() if p.name.isdigit()):
        if pid == os.getpid():
            continue
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if entry in environment.split(b"\0") and (process := identify(pid)):
            found.append(process)
    return found


def command(process: Process) -> str:
    """Return the command line, for messages to people."""
    try:
        return (_PROC / str(process.pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def send(process: Process, signal_number: int) -> None:
    """Send a signal to that very process; nothing happens where it is gone."""
    try:
        # A descriptor pins the process, so between the check and the signal nobody else can take the pid.
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, OSError):
        return
    try:
        if alive(process):
            signal.pidfd_send_signal(descriptor, signal_number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def stop(processes: Iterable[Process], *, patience_s: float) -> list[Process]:
    """Ask the processes to end, kill what has not ended after `patience_s`, and return what is left even so."""
    remaining = list(processes)
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        for process in remaining:
            send(process, number)
        remaining = _wait_until_gone(remaining, wait_s)
        if not remaining:
            break
    return remaining


def stop_marked(name: str, value: str, *, patience_s: float) -> list[Process]:
    """Stop all that carries the marker, also what starts meanwhile; return what is left even so."""
    return stop_found(lambda: marked(name, value), patience_s=patience_s)


def stop_found(find: Callable[[], list[Process]], *, patience_s: float) -> list[Process]:
    """Stop what `find` returns until it returns nothing, three times at most: a dying parent may still fork."""
    for _ in range(3):
        if not (found := find()):
            return []
        stop(found, patience_s=patience_s)
        patience_s = 0.0
    return find()


def _wait_until_gone(processes: list[Process], wait_s: float) -> list[Process]:
    deadline = time.monotonic() + wait_s
    while (processes := [p for p in processes if alive(p)]) and time.monotonic() < deadline:
        _reap(processes)
        time.sleep(_POLL_S)
    return processes


def _reap(processes: list[Process]) -> None:
    for process in processes:
        try:
            os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else's child
            continue
