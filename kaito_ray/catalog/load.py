"""Presets from `presets/*.yaml`: one model a file, and the file is named after the preset."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

import kaito_ray
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import UnknownPreset

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def presets_dir() -> Path:
    """Return where presets are: `kaito_ray/data/presets` in a wheel, `presets/` beside the package in a checkout."""
    package = Path(kaito_ray.__file__).parent
    packaged = package / "data" / "presets"
    return packaged if packaged.is_dir() else package.parent / "presets"


@cache
def presets() -> Mapping[str, ModelPreset]:
    """Return every preset by its name, in alphabetical order.

    Raises:
        ValueError: a file is no preset; the message names the file and the field.
    """
    return {path.stem: _load(path) for path in sorted(presets_dir().glob("*.yaml"))}


def find(name: str, field: str = "inference.preset.name") -> ModelPreset:
    """Return the preset of that name, alias or `org/model`; case does not matter.

    A preset's own name reads one file; only another name reads them all.

    Raises:
        UnknownPreset: there is none; `field` is named in the message, and names that are near.
    """
    wanted = name.lower()
    path = presets_dir() / f"{wanted}.yaml"
    if "/" not in wanted and path.is_file():
        return _load(path)
    by_name = _by_any_name()
    if wanted in by_name:
        return by_name[wanted]
    raise UnknownPreset(field, name, list(by_name))


def is_foreign(name: str) -> bool:
    """Return whether a name is a hub's `org/model` that no preset has."""
    return "/" in name and name.lower() not in _by_any_name()


@cache
def variants(name: str) -> tuple[ModelPreset, ...]:
    """Return the presets whose names go on where that one ends: `qwen3.6-35b-a3b` has `qwen3.6-35b-a3b-fp8`."""
    return tuple(_load(path) for path in sorted(presets_dir().glob(f"{name}-*.yaml")))


@cache
def _by_any_name() -> Mapping[str, ModelPreset]:
    return {alias: preset for preset in presets().values() for alias in preset.names}


@cache
def _load(path: Path) -> ModelPreset:
    try:
        preset = ModelPreset.from_wire(yaml.load(path.read_bytes(), Loader=_LOADER))  # noqa: S506 -- C SafeLoader
    except (ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error
    if preset.name != path.stem:
        raise ValueError(f"{path}: `name` is {preset.name!r}; it must be the file's own name, {path.stem!r}")
    return preset
