"""A model in a directory of one's own, as it is downloaded from a hub: config.json and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kaito_ray.errors import UserError

if TYPE_CHECKING:
    from kaito_ray.catalog.models import ModelPreset


def in_directory(folder: Path) -> ModelPreset:
    """Return a preset for the model in that directory; its weights are the safetensors files, or else the .bin ones.

    Raises:
        UserError: there is no readable config.json, or no weights.
    """
    from kaito_ray.catalog.from_config import preset_of

    config = folder / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--model: {config} cannot be read: {error}") from error
    weights = sum(f.stat().st_size for f in folder.glob("*.safetensors")) or sum(
        f.stat().st_size for f in folder.glob("*.bin")
    )
    if not weights:
        raise UserError(f"--model: {folder} holds no *.safetensors and no *.bin; download the weights too")
    return preset_of(folder.resolve().name, found, weights_bytes=weights, field="--model")
