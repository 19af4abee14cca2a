"""Runs the control plane: starts its processes in order, restarts what dies, and leaves nothing behind.

    python -m kaito_ray.local.supervisor --home DIR

The API server comes first; when the CRDs are in place, the machine agent and the operator follow. Killed itself, it
leaves processes behind, which the next start finds by their marker and ends, but for Ray clusters: those go on serving,
and the machine agent finds them again. Asked to stop (SIGTERM, Ctrl-C), it ends everything, Ray included.
Standard library only, for it must stay small and outlive the rest.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kaito_ray.local import processes
from kaito_ray.local.home import AlreadyRunning, Home, read_json, write_json
from kaito_ray.local.processes import CLUSTERS_MARKER, PART_MARKER, Process

log = logging.getLogger(__name__)

_FIRST_BACKOFF_S: Final = 0.5
_LAST_BACKOFF_S: Final = 30.0
_STEADY_S: Final = 60.0
_PATIENCE_S: Final = 10.0
_TICK_S: Final = 1.0
_BECOME_SUBREAPER: Final = 36  # PR_SET_CHILD_SUBREAPER, linux/prctl.h
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})


@dataclass(frozen=True)
class Part:
    """One process of the control plane."""

    name: str
    """Names its log file too."""
    command: tuple[str, ...]
    """argv."""
    once: bool = False
    """It does its work and ends; what follows in the list starts when it has succeeded."""


@dataclass
class _Run:
    part: Part
    process: Process | None = None
    done: bool = False
    restarts: int = 0
    failures: int = 0
    started_at: float = 0.0
    not_before: float = 0.0


def parts(home: Home) -> tuple[Part, ...]:
    """Return what makes up the control plane, in the order of starting."""

    def python(module: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", module, *arguments)

    root = str(home.root)
    # Of a home's operators there is never a second one, so the lease of one that was killed is its successor's at once.
    operator = ("--kubeconfig", str(home.kubeconfig), "--provider", "local", "--identity", "supervised")
    return (
        Part("apiserver", python("kaito_ray.local.apiserver", "--home", root)),
        Part("install", python("kaito_ray.local.install", "--home", root), once=True),
        Part("machine", python("kaito_ray.local.machine", "--home", root)),
        Part("operator", python("kaito_ray.controller", *operator)),
    )


def backoff_s(failures: int) -> float:
    """Return how long to wait before the next start, after so many short runs in a row."""
    return float(min(_FIRST_BACKOFF_S * 2**failures, _LAST_BACKOFF_S))


@dataclass
class Supervisor:
    """The loop."""

    home: Home
    parts: Sequence[Part]
    clock: Callable[[], float] = time.monotonic
    _runs: list[_Run] = field(init=False)

    def __post_init__(self) -> None:
        self._runs = [_Run(part) for part in self.parts]

    def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            AlreadyRunning: another supervisor holds the home.
        """
        with self.home.held():
            # Blocked, so that none is lost between two waits.
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            # Orphans of our processes become our children: then we can reap them, whatever this machine's init does.
            ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1, 0, 0, 0)
            stop_parts(self.home)
            try:
                self._loop()
            finally:
                self._stop()

    def _loop(self) -> None:
        while True:
            self._start_what_is_due()
            self._record()
            received = signal.sigtimedwait(_SIGNALS, _TICK_S)
            if received and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                log.info("asked to stop")
                return
            self._reap()

    def _start_what_is_due(self) -> None:
        for run in self._runs:
            if run.process is None and not run.done and self.clock() >= run.not_before:
                run.process = start(run.part, self.home)
                run.started_at = self.clock()
                log.info("%s started, pid %d", run.part.name, run.process.pid)
            if run.part.once and not run.done:
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for run in self._runs:
                if run.process and run.process.pid == pid:
                    self._ended(run, os.waitstatus_to_exitcode(status))

    def _ended(self, run: _Run, code: int) -> None:
        run.process = None
        if run.part.once and code == 0:
            run.done = True
            return
        run.failures = 0 if self.clock() - run.started_at >= _STEADY_S else run.failures + 1
        run.restarts += 1
        run.not_before = self.clock() + backoff_s(run.failures - 1 if run.failures else 0)
        log.warning("%s ended with %d; see %s", run.part.name, code, log_path(self.home, run.part))

    def _record(self) -> None:
        """Say on disk what runs; only when it changed."""
        me = processes.identify(os.getpid())
        record = {
            "supervisor": {"pid": os.getpid(), "started": me.started if me else 0},
            "ready": all(run.done or (run.process and not run.part.once) for run in self._runs),
            "parts": {
                run.part.name: {
                    "pid": run.process.pid if run.process else None,
                    "started": run.process.started if run.process else None,
                    "restarts": run.restarts,
                }
                for run in self._runs
                if not run.part.once
            },
        }
        if record != getattr(self, "_recorded", None):
            write_json(self.home.record, record)
            self._recorded = record

    def _stop(self) -> None:
        """End everything in the reverse order: nobody repairs what another one takes down."""
        for run in reversed(self._runs):
            if run.process:
                processes.stop([run.process], patience_s=_PATIENCE_S)
                log.info("%s stopped", run.part.name)
            if run.part.name == "machine":
                stop_ray(self.home)
        stop_parts(self.home)
        self.home.record.unlink(missing_ok=True)


def start(part: Part, home: Home) -> Process:
    """Start a part in a process group of its own, its output appended to its log."""
    env = {**os.environ, PART_MARKER: str(home.root), "PYTHONUNBUFFERED": "1"}
    # Ctrl-C in a terminal is for the supervisor, which then ends the others in order.
    return processes.spawn(part.command, env, log_path(home, part), session=False)


def log_path(home: Home, part: Part) -> Path:
    """Return where a part writes."""
    return home.logs / f"{part.name}.log"


def stop_parts(home: Home) -> list[Process]:
    """End the processes of a control plane, whoever left them; return those left even so."""
    return processes.stop_marked(PART_MARKER, str(home.root), patience_s=_PATIENCE_S)


def stop_ray(home: Home) -> list[Process]:
    """End every Ray cluster of a control plane, and remove what they keep in /tmp; return processes left even so."""
    left = processes.stop_marked(CLUSTERS_MARKER, str(home.ray), patience_s=2.0)
    if not left:
        for record in home.ray.glob("*/head.json"):
            if session := read_json(record).get("session"):
                shutil.rmtree(session, ignore_errors=True)
    return left


def main() -> int:
    """Run the control plane until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.local.supervisor", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="KAITO_RAY_HOME of the control plane")
    home = Home.at(parser.parse_args().home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        Supervisor(home, parts(home)).run()
    except AlreadyRunning as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
