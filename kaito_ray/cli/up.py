"""`kaito-ray up`: an API server, an operator, a KubeRay and a Karpenter on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from kaito_ray.cli.options import HomeOption


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once it runs; `kaito-ray down` ends it.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Start the control plane of this machine: apply a Workspace, and the model runs here.

    In the foreground it runs until Ctrl-C. Everything listens on loopback only.
    """
    from kaito_ray.cli.console import say
    from kaito_ray.local import up as control_plane
    from kaito_ray.local.home import Home, default_home

    where = Home.at(home or default_home())
    say(f"Starting the control plane in {where.root}")
    control_plane.up(where.root, detach=detach)
    if detach:
        say("[green]It runs.[/] Now:")
        say(f"  export KUBECONFIG={where.kubeconfig}")
        say("  kubectl apply -f examples/inference/workspace_smollm2.yaml")
        say("  kubectl get workspace -w")
        say("  kaito-ray chat")
