"""A model by any name that a person may have for it: a preset, a directory, or `org/model` of the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kaito_ray.errors import InvalidWorkspace, KaitoRayError, UserError

if TYPE_CHECKING:
    from kaito_ray.api.workspace import PresetSpec
    from kaito_ray.catalog.models import ModelPreset


class ModelUnknown(UserError):
    """The model is in no catalog, and nothing could be read of it; the message says why, and what to do."""

    reason = "ModelUnavailable"


def model_named(name: str, field: str) -> ModelPreset:
    """Return the model of a preset's name, of a directory with config.json and weights, or of the hub.

    Raises:
        UserError: there is none, or it cannot be read; `field` is named in the message.
    """
    from kaito_ray.catalog.load import find, is_foreign

    if Path(name).is_dir():
        return in_directory(Path(name), field)
    return of_hub(name, None, field) if is_foreign(name) else find(name, field)


def in_directory(folder: Path, field: str) -> ModelPreset:
    """Return a preset for the model in that directory.

    Raises:
        UserError: there is no readable config.json, or no weights.
    """
    from kaito_ray.controller.models import preset_from
    from kaito_ray.weights import facts

    try:
        return preset_from(facts.of_directory(folder), field)
    except InvalidWorkspace:
        raise
    except KaitoRayError as error:
        raise ModelUnknown(f"{field}: {error}") from error


def of_workspace(preset: PresetSpec | None, field: str) -> ModelPreset | None:
    """Return the model of a Workspace where the catalog lacks it, as the operator would fetch it; else None."""
    from kaito_ray.catalog.load import is_foreign

    if preset is None or not is_foreign(preset.name):
        return None
    return of_hub(preset.name, preset.revision, field)


def of_hub(repository: str, revision: str | None, field: str) -> ModelPreset:
    """Return a model of the hub, or of the mirror that HF_ENDPOINT names; HF_TOKEN opens gated ones.

    Raises:
        UserError: the hub cannot be reached, does not have it, or does not let us read it.
    """
    from kaito_ray.api.rules.syntax import hub_model
    from kaito_ray.controller.models import in_words, preset_from
    from kaito_ray.weights import facts

    if problem := hub_model(repository):
        raise InvalidWorkspace(field, problem)
    try:
        found = facts.of_hub(repository, revision, token=os.environ.get("HF_TOKEN"))
        return preset_from(found, field)
    except InvalidWorkspace:
        raise
    except KaitoRayError as error:
        raise ModelUnknown(f"{field}: {in_words(error, repository)}") from error
