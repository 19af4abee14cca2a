"""`kaito-ray presets`: the models that a Workspace can name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kaito_ray.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from kaito_ray.catalog.models import ModelPreset

app = typer.Typer(no_args_is_help=True, help="The models that a Workspace can name.")

COLUMNS = ("NAME", "WEIGHTS", "CONTEXT", "TUNING", "GATED", "LICENSE")


def _names(incomplete: str) -> list[str]:
    from kaito_ray.catalog.load import presets_dir

    return sorted(path.stem for path in presets_dir().glob(f"{incomplete}*.yaml"))


@app.command("list")
def list_(
    word: Annotated[str, typer.Argument(metavar="WORD", help="Only names and aliases that contain it.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """List the models, with what decides where they fit."""
    from kaito_ray.catalog.load import presets
    from kaito_ray.cli.console import print_json, print_table

    found = [p for p in presets().values() if any(word.lower() in name for name in p.names)]
    if output is Output.JSON:
        print_json([preset.to_wire() for preset in found])
    else:
        print_table(COLUMNS, (_row(preset) for preset in found))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(autocompletion=_names, help="Name, alias, any `org/model` of the hub, or a directory.")
    ],
    output: OutputOption = Output.TABLE,
) -> None:
    """Print all that is known about a model, as YAML."""
    from kaito_ray.cli.console import print_json, print_yaml
    from kaito_ray.cli.own_model import model_named

    preset = model_named(name, "NAME")
    if output is Output.JSON:
        print_json(preset.to_wire())
    else:
        print_yaml(preset.to_wire())


def _row(preset: ModelPreset) -> tuple[str, ...]:
    return (
        preset.name,
        f"{preset.weights_bytes / 2**30:.1f} GiB",
        str(preset.max_model_len),
        "yes" if preset.tuning else "",
        "yes" if preset.gated else "",
        preset.license,
    )
