"""`kaito-ray render`: what the operator would write for a Workspace. No cluster is asked."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kaito_ray.cli.foresight import Provider
from kaito_ray.cli.options import MANIFEST, GpuOption


class Format(StrEnum):
    """How to print manifests."""

    YAML = "yaml"
    JSON = "json"


def render(
    filename: Annotated[Path, MANIFEST],
    *,
    gpu: GpuOption = None,
    provider: Annotated[
        Provider | None,
        typer.Option(
            metavar="local|azure|aws",
            show_default="that of the instance type, else local",
            help="Whose machines are on offer.",
        ),
    ] = None,
    data_allow: Annotated[
        str,
        typer.Option(
            envvar="KAITO_RAY_DATA_ALLOW",
            metavar="HOSTS",
            show_default="none",
            help="The operator's setting: hosts or networks that training data may come from though they are private.",
        ),
    ] = "",
    output: Annotated[
        Format, typer.Option("--output", "-o", metavar="yaml|json", help="`json` prints one List.")
    ] = Format.YAML,
) -> None:
    """Print what the operator would write for the Workspaces in a file.

    A ConfigMap that a Workspace names by inference.config or tuning.config is read from the same file.
    """
    from kaito_ray.cli.console import print_json, print_yaml
    from kaito_ray.cli.foresight import foresee
    from kaito_ray.cli.manifests import read
    from kaito_ray.controller.settings import names_in

    found = read(filename)
    objects = [
        item
        for workspace in found.workspaces
        for item in foresee(
            workspace, found.config_maps, gpu=gpu, provider=provider, data_allow=names_in(data_allow)
        ).objects()
    ]
    if output is Format.JSON:
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        print_yaml(*objects)
