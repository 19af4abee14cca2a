"""`tuning`: the model, the method, where data come from and where the adapter goes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from kaito_ray.api.rules import syntax
from kaito_ray.api.rules.inference import preset_faults, pull_secret_faults
from kaito_ray.api.workspace import DataDestination, DataSource, Workspace
from kaito_ray.errors import InvalidWorkspace

METHODS: Final = ("lora", "qlora")


def faults(
    workspace: Workspace, presets: Collection[str], *, data_allow: Collection[str] = ()
) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with `tuning`; `presets` as in `rules.inference`, `data_allow` as the operator's setting."""
    spec = workspace.tuning
    if spec is None:
        return
    if spec.preset is None:
        yield InvalidWorkspace("tuning.preset", "name the model to tune: preset.name")
    else:
        yield from preset_faults(spec.preset, "tuning.preset", presets)
    if (spec.method or "").lower() not in METHODS:
        yield InvalidWorkspace("tuning.method", f"{spec.method or 'nothing'!r} is no method; use lora or qlora")
    if spec.config is not None and (problem := syntax.dns_subdomain(spec.config)):
        yield InvalidWorkspace("tuning.config", problem)
    yield from _input_faults(spec.input, data_allow)
    yield from _output_faults(spec.output)
    if workspace.resource.count > 1:
        yield InvalidWorkspace("resource.count", "tuning uses one node; remove it, and set tuning.workers for more")
    if workspace.resource.partition:
        yield InvalidWorkspace("resource.partition", "tuning uses whole GPUs; remove it")


def _input_faults(source: DataSource | None, data_allow: Collection[str]) -> Iterator[InvalidWorkspace]:
    if source is None:
        yield InvalidWorkspace("tuning.input", "say where the data are: exactly one of urls, image and volumeSource")
        return
    if source.workspace:
        yield InvalidWorkspace("tuning.input.workspace", "it is for adapters; use urls, image or volumeSource")
    if sum(map(bool, (source.urls, source.image, source.volume_source))) != 1:
        yield InvalidWorkspace("tuning.input", "set exactly one of urls, image and volumeSource")
    for index, url in enumerate(source.urls):
        if problem := syntax.public_url(url, allow=data_allow):
            yield InvalidWorkspace(f"tuning.input.urls[{index}]", problem)
    if source.image and (problem := syntax.image(source.image)):
        yield InvalidWorkspace("tuning.input.image", problem)
    yield from pull_secret_faults(source, "tuning.input")


def _output_faults(destination: DataDestination | None) -> Iterator[InvalidWorkspace]:
    if destination is None or bool(destination.image) == bool(destination.volume_source):
        yield InvalidWorkspace("tuning.output", "say where the adapter goes: exactly one of image and volumeSource")
    if destination is None:
        return
    if destination.image and (problem := syntax.image(destination.image)):
        yield InvalidWorkspace("tuning.output.image", problem)
    secret = destination.image_push_secret
    if destination.image and not secret:
        yield InvalidWorkspace("tuning.output.imagePushSecret", "pushing an image needs a Secret with credentials")
    if secret and not destination.image:
        yield InvalidWorkspace("tuning.output.imagePushSecret", "nothing is pushed; set image or remove it")
    if secret and (problem := syntax.dns_subdomain(secret)):
        yield InvalidWorkspace("tuning.output.imagePushSecret", problem)
