"""Workspaces as people ask about them: which one is meant, and one line of facts about each. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaito_ray.api import conditions, names
from kaito_ray.errors import (
    DoesNotFit,
    InvalidWorkspace,
    ManagedByKaito,
    NameTaken,
    UnknownPreset,
    UnsupportedGPU,
    UserError,
)
from kaito_ray.kube.conditions import find

COLUMNS = ("NAME", "MODEL", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "WHY")

_READY_TYPES = (conditions.RESOURCE_READY, conditions.INFERENCE_READY, conditions.WORKSPACE_READY)
_WAITS_FOR_AN_EDIT = frozenset(
    error.reason
    for error in (
        InvalidWorkspace,
        UnknownPreset,
        NameTaken,
        ManagedByKaito,
        DoesNotFit,
        UnsupportedGPU,
    )
)
"""Reasons that stay until a person changes something."""


class NoSuchWorkspace(UserError):
    """The Workspace that is meant is not there, or it is not clear which one is meant."""

    reason = "NoSuchWorkspace"


def pick(workspaces: Sequence[Mapping[str, Any]], name: str | None, *, ready: bool = False) -> Mapping[str, Any]:
    """Return the Workspace called `name`; without a name the only one, or, with `ready`, the only one that serves.

    Raises:
        NoSuchWorkspace: there is none, or several; the message lists them.
    """
    known = ", ".join(sorted(w["metadata"]["name"] for w in workspaces))
    if name:
        for workspace in workspaces:
            if workspace["metadata"]["name"] == name:
                return workspace
        raise NoSuchWorkspace(f"there is no Workspace {name!r}; {f'there are: {known}' if known else _HOW_TO_APPLY}")
    if not workspaces:
        raise NoSuchWorkspace(f"there is no Workspace yet; {_HOW_TO_APPLY}")
    candidates = [w for w in workspaces if is_ready(w)] if ready else list(workspaces)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        states = "; ".join(f"{w['metadata']['name']}: {why(w) or 'not ready yet'}" for w in workspaces)
        raise NoSuchWorkspace(f"no Workspace is ready ({states}); `kaito-ray status --watch` shows when one is")
    raise NoSuchWorkspace(f"there are several Workspaces ({known}): name one")


def is_ready(workspace: Mapping[str, Any]) -> bool:
    """Return whether it serves."""
    return condition(workspace, conditions.INFERENCE_READY).get("status") == "True"


def stuck(workspace: Mapping[str, Any]) -> str | None:
    """Return the words of a condition that only an edit of the manifest can change, or None where time may help."""
    for found in workspace.get("status", {}).get("conditions", ()):
        if found["status"] == "False" and found["reason"] in _WAITS_FOR_AN_EDIT:
            return str(found.get("message") or found["reason"])
    return None


def condition(workspace: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Return the condition of that type; empty where it was never set."""
    return find(workspace.get("status"), type_)


def why(workspace: Mapping[str, Any]) -> str:
    """Return the WHY column: in a few words, why it is not ready."""
    return str(workspace.get("status", {}).get("reason") or "")


def endpoint(workspace: Mapping[str, Any]) -> str:
    """Return the base URL; add `/chat` or `/v1`.

    Raises:
        NoSuchWorkspace: it has none (yet).
    """
    if url := workspace.get("status", {}).get("endpoint"):
        return str(url)
    name = workspace["metadata"]["name"]
    if "tuning" in workspace:
        raise NoSuchWorkspace(f"Workspace {name!r} tunes a model, so it has no endpoint; name one that serves")
    raise NoSuchWorkspace(
        f"Workspace {name!r} has no endpoint yet ({why(workspace) or 'it is being set up'}); "
        "`kaito-ray status --watch` shows when it has"
    )


def row(workspace: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one line under `COLUMNS`."""
    return (
        workspace["metadata"]["name"],
        _model(workspace),
        _instance(workspace),
        *(condition(workspace, type_).get("status", "") for type_ in _READY_TYPES),
        why(workspace),
    )


def summary(workspace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same facts, and the endpoint, for programs."""
    status = workspace.get("status", {})
    return {
        "namespace": workspace["metadata"].get("namespace", "default"),
        "name": workspace["metadata"]["name"],
        "model": _model(workspace),
        "instanceType": _instance(workspace),
        "ready": is_ready(workspace),
        "state": status.get("state"),
        "reason": status.get("reason"),
        "endpoint": status.get("endpoint"),
        "startup": status.get("startup", []),
        "replicas": status.get("replicas"),
    }


def startup(workspace: Mapping[str, Any]) -> str:
    """Return how long each phase of its first start took; empty where none has ended."""
    phases = workspace.get("status", {}).get("startup") or ()
    if not phases:
        return ""
    parts = ", ".join(f"{phase['name']} {phase['seconds']} s" for phase in phases)
    seconds = sum(phase["seconds"] for phase in phases)
    how = "answered after" if phases[-1]["name"] == "Answering" else "has been starting for"
    return f"{workspace['metadata']['name']} {how} {seconds} s: {parts}"


def labels(workspace: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that the pods of a Workspace carry."""
    return {names.WORKSPACE_LABEL: workspace["metadata"]["name"]}


def _model(workspace: Mapping[str, Any]) -> str:
    work = workspace.get("inference") or workspace.get("tuning") or {}
    return str((work.get("preset") or {}).get("name") or "(pod template)")


def _instance(workspace: Mapping[str, Any]) -> str:
    planned = (workspace.get("status", {}).get("plan") or {}).get("instanceType")
    return str(planned or workspace.get("resource", {}).get("instanceType") or "")


_HOW_TO_APPLY = "apply one: `kubectl apply -f examples/inference/workspace_smollm2.yaml`"
