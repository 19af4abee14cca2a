"""The preset of a Workspace that names a model of no catalog: from what serves it already, else from the hub.

What was fetched is written on the RayService or RayJob. So a Workspace keeps the commit that it was planned with, and an
operator that restarts while the hub is down can still look after it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import ValidationError

from kaito_ray.api.workspace import PresetSpec, Workspace
from kaito_ray.catalog.load import find, is_foreign
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.controller.models import Models, Wanted
from kaito_ray.controller.queue import Key
from kaito_ray.errors import InvalidWorkspace
from kaito_ray.kube.cluster import SECRETS, Cluster, Manifest

MODEL: Final = "ray.kaito.sh/model"
"""Annotation of a RayService or RayJob: what was asked for and the preset that came of it, as JSON."""
TOKEN_KEY: Final = "HF_TOKEN"  # noqa: S105 - the name of a key

Found = ModelPreset | InvalidWorkspace
"""A model, or why it cannot be had."""


class TokenMissing(InvalidWorkspace):
    """The Secret with the hub's token does not exist, or lacks its key; it is noticed when it appears."""

    reason = "SecretNotFound"


async def observed_model(
    cluster: Cluster, models: Models | None, workspace: Workspace, children: Iterable[Manifest]
) -> Found | None:
    """Return the model that the Workspace names, or why it cannot be had; None where the catalog has it."""
    asked = workspace.preset
    if asked is None or models is None or not is_foreign(asked.name):
        return None
    for child in children:
        if (kept := _kept(child, asked)) is not None:
            return kept
    meta = workspace.metadata
    part = "inference" if workspace.inference else "tuning"
    try:
        token = await _token(cluster, asked, meta.namespace, part)
        wanted = Wanted(asked.name, asked.revision, token)
        return models.look_up(wanted, Key(meta.namespace, meta.name), f"{part}.preset.name")
    except InvalidWorkspace as error:
        return error


def at_its_commit(workspace: Workspace, model: Found | None) -> Workspace:
    """Return the Workspace with the commit that its model was found at as the revision that it asks for."""
    if not isinstance(model, ModelPreset) or model.source.revision is None or workspace.preset is None:
        return workspace
    preset = workspace.preset.model_copy(update={"revision": model.source.revision})
    part = "inference" if workspace.inference else "tuning"
    spec = (workspace.inference or workspace.tuning or workspace).model_copy(update={"preset": preset})
    return workspace.model_copy(update={part: spec})


def require_model(model: Found | None, asked: PresetSpec, field: str) -> ModelPreset:
    """Return the model, from the catalog where it was not found elsewhere.

    Raises:
        InvalidWorkspace: it cannot be had; the message says why.
    """
    if isinstance(model, InvalidWorkspace):
        raise model
    return model or find(asked.name, field)


def model_mark(manifest: Manifest, model: Found | None) -> dict[str, str]:
    """Return what keeps a fetched model with the object that is made of it; `manifest` is the Workspace as it was read."""
    if not isinstance(model, ModelPreset):
        return {}
    spec = manifest.get("inference") or manifest.get("tuning") or {}
    asked = spec.get("preset") or {}
    kept = {"name": asked.get("name"), "revision": asked.get("revision"), "preset": model.to_wire()}
    return {MODEL: json.dumps(kept, sort_keys=True, separators=(",", ":"))}


def _kept(child: Manifest, asked: PresetSpec) -> ModelPreset | None:
    text = (child["metadata"].get("annotations") or {}).get(MODEL)
    if text is None:
        return None
    try:
        kept: dict[str, Any] = json.loads(text)
        if (kept["name"], kept["revision"]) != (asked.name, asked.revision):
            return None
        return ModelPreset.from_wire(kept["preset"])
    except (KeyError, TypeError, ValueError, ValidationError):
        return None  # somebody's edit, or a form of another version: it is fetched anew


async def _token(cluster: Cluster, asked: PresetSpec, namespace: str, part: str) -> str | None:
    name = asked.preset_options.model_access_secret if asked.preset_options else None
    if name is None:
        return None
    secret = await cluster.get(SECRETS, name, namespace)
    value = ((secret or {}).get("data") or {}).get(TOKEN_KEY)
    if value is None:
        lacks = (
            f"the Secret {name} has no key {TOKEN_KEY}" if secret else f"there is no Secret {name} in this namespace"
        )
        raise TokenMissing(f"{part}.preset.presetOptions.modelAccessSecret", f"{lacks}; create it")
    return base64.b64decode(value).decode().strip()
