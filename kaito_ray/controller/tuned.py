"""Adapters that are the output of a tuning Workspace: named by it, waited for, and followed when it is tuned again. Pure.

What the run pushed is known by digest, so a resolved adapter is an image like any other, pulled with the Secret that it
was pushed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kaito_ray.api.workspace import AdapterSpec, InferenceSpec, Workspace

Tuned = Mapping[str, Workspace]
"""Workspaces by name, those of them that exist."""

_TRY: Final = "; name the adapter by image or volumeSource instead"


def tuned_names(spec: InferenceSpec | None) -> frozenset[str]:
    """Return the names of the tuning Workspaces that adapters come from."""
    adapters = spec.adapters if spec else ()
    return frozenset(a.source.workspace for a in adapters if a.source and a.source.workspace)


def resolved(workspace: Workspace, tuned: Tuned) -> Workspace:
    """Return the Workspace with each adapter of a finished run as the image that it pushed; others stay as they are."""
    spec = workspace.inference
    if spec is None or not tuned_names(spec):
        return workspace
    adapters = tuple(_resolved(adapter, tuned) for adapter in spec.adapters)
    return workspace.model_copy(update={"inference": spec.model_copy(update={"adapters": adapters})})


def waits_for(adapter: AdapterSpec, tuned: Tuned) -> str | None:
    """Return what an adapter waits for, in words; None where its source is known."""
    source = adapter.source
    if source is None or source.workspace is None:
        return None
    run = tuned.get(source.workspace)
    if run is None:
        return f"there is no Workspace {source.workspace} in this namespace; create it"
    if run.tuning is None:
        return f"Workspace {run.metadata.name} serves and does not tune" + _TRY
    if run.tuning.output is None or run.tuning.output.image is None:
        return f"Workspace {run.metadata.name} puts its adapter on a volume" + _TRY
    if _pushed(run) is None:
        return f"Workspace {run.metadata.name} has not pushed its adapter yet (state {run.status.state or 'Pending'})"
    return None


def _resolved(adapter: AdapterSpec, tuned: Tuned) -> AdapterSpec:
    source = adapter.source
    if source is None or source.workspace is None or waits_for(adapter, tuned) is not None:
        return adapter
    run = tuned[source.workspace]
    secret = run.tuning.output.image_push_secret if run.tuning and run.tuning.output else None
    secrets = (*source.image_pull_secrets, *((secret,) if secret else ()))
    image = source.model_copy(update={"image": _pushed(run), "image_pull_secrets": secrets})
    return adapter.model_copy(update={"source": image})


def _pushed(run: Workspace) -> str | None:
    """Return the image by digest; while it is tuned again, that of the run before."""
    return run.status.tuning.output if run.status.tuning else None
