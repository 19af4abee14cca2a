"""`kaito-ray up`: an API server, an operator, a KubeRay and a Karpenter on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaito_ray.cli.options import HomeOption


def up(
    *,
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

    here = Home.at(home or default_home())
    say(f"The control plane of this machine, in {here.root}")
    if detach:
        from kaito_ray.cli.starting import start_detached

        start_detached(here.root)
        say(f"\nIt runs. Now:\n{what_next(here.kubeconfig)}")
    else:
        say(f"\nCtrl-C ends it. Meanwhile, in another terminal:\n{what_next(here.kubeconfig)}\n")
        control_plane.up(here.root, detach=False)


def what_next(kubeconfig: Path) -> str:
    """Return what a person types next."""
    from kaito_ray.cli.examples import example

    return "\n".join(
        (
            f"  export KUBECONFIG={kubeconfig}",
            f"  kubectl apply -f {example('inference/workspace_smollm2.yaml')}",
            "  kubectl get workspace -w",
            "  kaito-ray chat",
        )
    )
