"""Where one control plane keeps its state on disk: `KAITO_RAY_HOME`, readable by its owner alone.

Standard library only: the supervisor imports it and stays small.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaito_ray.errors import KaitoRayError

ENVIRONMENT = "KAITO_RAY_HOME"
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


class AlreadyRunning(KaitoRayError):
    """Another control plane uses the same home."""

    reason = "AlreadyRunning"

    def __init__(self, home: Path, pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"a control plane already runs in {home} ({who}); use it, or stop it with `kaito-ray down`, "
            f"or choose another directory with {ENVIRONMENT}"
        )


def default_home() -> Path:
    """Return `KAITO_RAY_HOME`, or `~/.kaito-ray`."""
    return Path(os.environ.get(ENVIRONMENT) or Path.home() / ".kaito-ray")


@dataclass(frozen=True)
class Home:
    """The paths of one control plane."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Home:
        """Return the home at `root`, made if need be; the directory is closed to other users."""
        root = root.expanduser().resolve()
        root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        root.chmod(PRIVATE_DIRECTORY)
        home = cls(root)
        for directory in (home.logs, home.pods, home.ray, home.claims):
            directory.mkdir(exist_ok=True)
        return home

    @property
    def kubeconfig(self) -> Path:
        """Written by the API server."""
        return self.root / "kubeconfig"

    @property
    def record(self) -> Path:
        """What the supervisor runs: pids, start times, restarts."""
        return self.root / "control-plane.json"

    @property
    def logs(self) -> Path:
        """One file for each supervised process."""
        return self.root / "logs"

    @property
    def pods(self) -> Path:
        """Container logs and mounted volumes, by pod, as a kubelet lays them out."""
        return self.root / "pods"

    @property
    def ray(self) -> Path:
        """One directory for each local Ray cluster: its token, ports, process."""
        return self.root / "ray"

    @property
    def claims(self) -> Path:
        """One directory for each PersistentVolumeClaim."""
        return self.root / "claims"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the home for this process; the kernel lets go of it when the process ends, however it ends.

        Raises:
            AlreadyRunning: another process holds it.
        """
        with (self.root / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(self.root, self.holder()) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def holder(self) -> int | None:
        """Return the pid of the process that holds the home, or None when nobody does."""
        try:
            with (self.root / "lock").open("r") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = file.read().strip()
                    return int(text) if text.isdigit() else None
                return None
        except FileNotFoundError:
            return None


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read; readers see the old content or the new, never a part."""
    path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_private` does."""
    write_private(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty where there is no file, or no JSON object in it."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
