"""The options that several commands share, declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="KAITO_RAY_HOME",
        metavar="DIR",
        show_default="~/.kaito-ray",
        help="Where the control plane of this machine keeps its state.",
    ),
]
KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        envvar="KUBECONFIG",
        metavar="FILE",
        show_default="that of this machine's control plane, else ~/.kube/config",
        help="Which cluster.",
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        show_default="the kubeconfig's, else default",
        help="Namespace of the Workspace.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", metavar="table|json", help="`json` for programs.")]
WorkspaceArgument = Annotated[
    str | None,
    typer.Argument(metavar="WORKSPACE", show_default="the only one there is", help="Name of the Workspace."),
]
MANIFEST = typer.Option("--filename", "-f", metavar="FILE", help="A Workspace manifest; `-` reads standard input.")
GpuOption = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="INSTANCE",
        show_default="the manifest's, else this machine",
        help="An instance type, or a GPU such as A100; `local` is this machine.",
    ),
]
