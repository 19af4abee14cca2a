"""`kaito-ray logs`: what a Workspace's pods say, or the control plane of this machine."""

from __future__ import annotations

import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kaito_ray.api import names
from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.options import HomeOption, KubeconfigOption, NamespaceOption, WorkspaceArgument
from kaito_ray.errors import KaitoRayError, UserError
from kaito_ray.kube.cluster import WORKSPACES


class Component(StrEnum):
    """A process of the control plane of this machine."""

    APISERVER = "apiserver"
    OPERATOR = "operator"
    MACHINE = "machine"


def logs(
    workspace: WorkspaceArgument = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
    tail: Annotated[int, typer.Option(min=-1, metavar="LINES", help="Lines from the end; -1 is all.")] = 200,
    component: Annotated[
        Component | None,
        typer.Option(
            metavar="apiserver|operator|machine",
            help="A process of this machine's control plane, instead of a Workspace.",
        ),
    ] = None,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Print the logs of a Workspace's pods, as kubectl does; of one that tunes, what its job prints."""
    if component is not None:
        raise typer.Exit(_run(_tail(log_file(home, component), lines=tail, follow=follow)))
    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    found = connection.ask(target, lambda cluster: cluster.list(WORKSPACES, target.namespace))
    meant = workspaces.pick(found, workspace)
    name = meant["metadata"]["name"]
    if "tuning" in meant and _job_told(target, name, lines=tail, follow=follow):
        return
    words = target.kubectl(
        "logs",
        f"--selector={names.WORKSPACE_LABEL}={name}",
        "--all-containers",
        f"--tail={tail}",
        *(["--follow"] if follow else []),
    )
    raise typer.Exit(_run(words))


def log_file(home: Path | None, component: Component) -> Path:
    """Return the log of a process of the control plane.

    Raises:
        UserError: it was never started here.
    """
    from kaito_ray.local.home import default_home

    path = (home or default_home()).expanduser() / "logs" / f"{component.value}.log"
    if not path.is_file():
        raise UserError(f"there is no {path}: the control plane was never started there; `kaito-ray up --detach` does")
    return path


def _job_told(target: connection.Target, name: str, *, lines: int, follow: bool) -> bool:
    """Print the log of a tuning job; return whether Ray had one to give."""
    from kaito_ray.cli import job_log

    printed, _ = connection.ask(target, lambda cluster: job_log.read(cluster, target.namespace, name))
    if printed is None:
        return False
    shown = printed if lines < 0 else printed[len(printed) - min(lines, len(printed)) :]
    print(*shown, sep="\n", flush=True)
    if follow:
        for line in job_log.follow(target, name, after=len(printed)):
            print(line, flush=True)
    return True


def _tail(path: Path, *, lines: int, follow: bool) -> list[str]:
    return ["tail", f"--lines={'+1' if lines < 0 else lines}", *(["--follow=name"] if follow else []), str(path)]


def _run(words: list[str]) -> int:
    try:
        return subprocess.run(words, check=False).returncode
    except FileNotFoundError:
        raise KaitoRayError(
            f"{words[0]} is not installed, or not on PATH; `kaito-ray doctor` says how to get it"
        ) from None
