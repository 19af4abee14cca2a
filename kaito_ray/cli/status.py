"""`kaito-ray status`: the control plane of this machine, and every Workspace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.options import HomeOption, KubeconfigOption, NamespaceOption, Output, OutputOption
from kaito_ray.kube.cluster import WORKSPACES

if TYPE_CHECKING:
    from kaito_ray.local.up import ControlPlaneState


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C, and show each change.")] = False,
    output: OutputOption = Output.TABLE,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Print whether the control plane of this machine runs, how each Workspace is, and how its first start went.

    The exit status is 1 where there is no cluster to ask.
    """
    from kaito_ray.cli.console import print_json, print_table, say

    here = _this_machine(home)
    try:
        target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    except connection.NotRunning:
        target = None
    except connection.NoCluster:
        if kubeconfig is not None:
            raise
        target = None
    if watch and target:
        _watch(target)
    found = _workspaces(target) if target else []
    if output is Output.JSON:
        print_json({"controlPlane": here.to_json(), "workspaces": [workspaces.summary(w) for w in found]})
    else:
        say(_sentence(here))
        if found:
            print_table(workspaces.COLUMNS, (workspaces.row(w) for w in found))
            for line in filter(None, map(workspaces.startup, found)):
                say(line)
        elif target:
            say(f"There is no Workspace in namespace {target.namespace}.")
    raise typer.Exit(0 if target else 1)


def _this_machine(home: Path | None) -> ControlPlaneState:
    from kaito_ray.local import up as control_plane
    from kaito_ray.local.home import default_home

    return control_plane.state((home or default_home()).expanduser())


def _sentence(here: ControlPlaneState) -> str:
    if not here.running:
        return "The control plane of this machine does not run; `kaito-ray up --detach` starts it."
    parts = ", ".join(f"{p.name} {p.pid if p.running else '[yellow]restarting[/]'}" for p in here.parts)
    again = sum(p.restarts for p in here.parts)
    return f"The control plane runs at {here.server} ({parts}" + (f"; {again} restarts)" if again else ")")


def _workspaces(target: connection.Target) -> Sequence[Mapping[str, Any]]:
    return connection.ask(target, lambda cluster: cluster.list(WORKSPACES, target.namespace))


def _watch(target: connection.Target) -> None:
    """Show every Workspace again and again, until the person interrupts."""
    from kaito_ray.cli.waiting import POLL_S, display

    with display(elapsed=False) as show:
        while True:
            show(_workspaces(target), 0.0)
            time.sleep(POLL_S)
