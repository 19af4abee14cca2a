"""May this Workspace be stored? Pure: what the webhook, the command line and the tests ask alike.

All faults are returned, not the first. Nothing here needs a network or the catalog; what is known of presets and
retired machines is handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import ValidationError

from kaito_ray.api.rules import annotations as annotation_rules
from kaito_ray.api.rules import inference, placeholders, resource, syntax, tuning, update
from kaito_ray.api.workspace import Workspace
from kaito_ray.errors import InvalidWorkspace

_SPEC: Final = ("resource", "inference", "tuning")


def refusals(
    new: Mapping[str, Any],
    old: Mapping[str, Any] | None = None,
    *,
    presets: Collection[str] = (),
    data_allow: Collection[str] = (),
) -> list[InvalidWorkspace]:
    """Return every reason to refuse `new`, which replaces `old` where that is given; empty means it is admitted.

    `presets` are the known model names in lower case; without them, names of models are not checked.
    `data_allow` are the hosts and networks that training data may come from though they are private.

    A Workspace that is being deleted, or whose spec and annotations did not change, is not judged: rules that came
    later must never stop anybody from removing a finalizer or setting a label.
    """
    try:
        return _judged(new, old, presets, data_allow)
    except RecursionError:
        return [InvalidWorkspace("manifest", "it is nested too deeply; no field needs more than a few dozen levels")]


def _judged(
    new: Mapping[str, Any], old: Mapping[str, Any] | None, presets: Collection[str], data_allow: Collection[str]
) -> list[InvalidWorkspace]:
    if old is not None and (_is_leaving(new) or judged_part(new) == judged_part(old)):
        return []
    unfilled = list(placeholders.faults(new))
    try:
        workspace = Workspace.from_wire(new)
    except ValidationError as error:
        return unfilled + _of_validation(error)
    found = list(_faults(workspace, presets, data_allow))
    if old is not None and (before := _parsed(old)) is not None:
        found += update.faults(workspace, before)
    named = {fault.field for fault in unfilled}
    return unfilled + [fault for fault in found if fault.field not in named]


def judged_part(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a manifest is judged: its name, its spec, and those of its annotations that mean something here."""
    meta = _metadata(manifest)
    annotations = {k: v for k, v in (meta.get("annotations") or {}).items() if _is_known(k)}
    kept = {"name": meta.get("name"), "annotations": annotations}
    return {"metadata": kept, **{part: manifest[part] for part in _SPEC if part in manifest}}


def warnings(new: Mapping[str, Any], *, retired: Mapping[str, str] | None = None) -> list[str]:
    """Return what is accepted, but deserves a word; `retired` maps instance types to what is used instead."""
    workspace = _parsed(new)
    if workspace is None:
        return []
    found = list(annotation_rules.warnings(workspace))
    found += [
        f"resource.instanceType: {name} was retired by its provider; {instead} is used instead"
        for name in (workspace.resource.instance_type, *workspace.resource.instance_types)
        if name and (instead := (retired or {}).get(name))
    ]
    if workspace.preset is None:
        return found
    part = "inference" if workspace.inference else "tuning"
    if workspace.preset.access_mode == "private":
        found.append(f"{part}.preset.accessMode: deprecated, and the same as public here")
    if workspace.inference and workspace.resource.count > 1:
        found.append("resource.count: deprecated; the planner decides how many nodes a preset needs")
    return found


def _faults(workspace: Workspace, presets: Collection[str], data_allow: Collection[str]) -> list[InvalidWorkspace]:
    found: list[InvalidWorkspace] = []
    if problem := syntax.dns_label(workspace.metadata.name):
        found.append(InvalidWorkspace("metadata.name", problem))
    if (workspace.inference is None) == (workspace.tuning is None):
        found.append(InvalidWorkspace("inference", "set exactly one of inference (to serve) and tuning (to tune)"))
    found += annotation_rules.faults(workspace)
    found += resource.faults(workspace)
    found += inference.faults(workspace, presets)
    found += tuning.faults(workspace, presets, data_allow=data_allow)
    return found


def _is_leaving(manifest: Mapping[str, Any]) -> bool:
    return bool(_metadata(manifest).get("deletionTimestamp"))


def _is_known(annotation: str) -> bool:
    domain, slash, _ = annotation.partition("/")
    return bool(slash) and (domain == "kaito.sh" or domain.endswith(".kaito.sh"))


def _metadata(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    found = manifest.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _parsed(manifest: Mapping[str, Any]) -> Workspace | None:
    try:
        return Workspace.from_wire(manifest)
    except ValidationError:
        return None


def _of_validation(error: ValidationError) -> list[InvalidWorkspace]:
    """Return pydantic's findings, one for each field."""
    found: dict[str, InvalidWorkspace] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = ""
        for step in detail["loc"]:
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
        words = "no such field; remove it" if detail["type"] == "extra_forbidden" else detail["msg"].lower()
        found.setdefault(path, InvalidWorkspace(path or "manifest", words))
    return list(found.values())
