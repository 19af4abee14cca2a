"""Adapters that are the output of a tuning Workspace: named by it, waited for, and followed when it is tuned again. Pure.

What the run pushed is known by digest, so a resolved adapter is an image like any other, pulled with the Secret that it
was pushed with. A run whose Workspace is deleted takes nothing away from who serves its adapter: what the replica was
told last, it is told again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import yaml
from pydantic import ValidationError

from kaito_ray.api.app_args import ACCOUNT_CREDENTIALS, UserConfig
from kaito_ray.api.workspace import AdapterSpec, InferenceSpec, Workspace
from kaito_ray.kube.cluster import Manifest

Tuned = Mapping[str, Workspace]
"""Workspaces by name, those of them that exist."""


@dataclass(frozen=True)
class Told:
    """What the replica was told last."""

    images: Mapping[str, str] = field(default_factory=dict)
    """Names of adapters -> images by digest."""
    secrets: tuple[str, ...] = ()
    """Secrets to pull them with."""


_TRY: Final = "; name the adapter by image or volumeSource instead"


def tuned_names(spec: InferenceSpec | None) -> frozenset[str]:
    """Return the names of the tuning Workspaces that adapters come from."""
    adapters = spec.adapters if spec else ()
    return frozenset(a.source.workspace for a in adapters if a.source and a.source.workspace)


def told(service: Manifest | None, registry: Manifest | None) -> Told:
    """Return what the replica was told last, by its RayService and the Secret of registry credentials."""
    if service is None:
        return Told()
    try:
        (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
        (deployment,) = application["deployments"]
        adapters = UserConfig.from_wire(deployment["user_config"]).adapters
    except (KeyError, TypeError, ValueError, ValidationError, yaml.YAMLError):  # written by another version
        return Told()
    files = [name for name in ((registry or {}).get("data") or {}) if not name.endswith(ACCOUNT_CREDENTIALS)]
    images = {adapter.name: adapter.image for adapter in adapters if adapter.image and "@" in adapter.image}
    return Told(images, tuple(sorted(name.removesuffix(".json") for name in files)))


def resolved(workspace: Workspace, tuned: Tuned, last: Told) -> Workspace:
    """Return the Workspace with each adapter of a finished run as the image that it pushed; others stay as they are."""
    spec = workspace.inference
    if spec is None or not tuned_names(spec):
        return workspace
    adapters = tuple(_resolved(adapter, tuned, last) for adapter in spec.adapters)
    return workspace.model_copy(update={"inference": spec.model_copy(update={"adapters": adapters})})


def waits_for(adapter: AdapterSpec, tuned: Tuned) -> str | None:
    """Return what an adapter waits for, in words; None where its source is known."""
    source = adapter.source
    if source is None or source.workspace is None:
        return None
    run = tuned.get(source.workspace)
    if run is None and source.image:
        return None
    if run is None:
        return f"there is no Workspace {source.workspace} in this namespace; create it"
    if run.tuning is None:
        return f"Workspace {run.metadata.name} serves and does not tune" + _TRY
    if run.tuning.output is None or run.tuning.output.image is None:
        return f"Workspace {run.metadata.name} puts its adapter on a volume" + _TRY
    if _pushed(run) is None:
        return f"Workspace {run.metadata.name} has not pushed its adapter yet (state {run.status.state or 'Pending'})"
    return None


def outlives_its_run(adapter: AdapterSpec, tuned: Tuned) -> bool:
    """Return whether a resolved adapter is served though the Workspace that made it is gone."""
    source = adapter.source
    return bool(source and source.workspace and source.image and source.workspace not in tuned)


def _resolved(adapter: AdapterSpec, tuned: Tuned, last: Told) -> AdapterSpec:
    source = adapter.source
    if source is None or source.workspace is None:
        return adapter
    run = tuned.get(source.workspace)
    if run is None:
        image, secrets = last.images.get(source.name or ""), last.secrets
    elif waits_for(adapter, tuned) is None:
        secret = run.tuning.output.image_push_secret if run.tuning and run.tuning.output else None
        image, secrets = _pushed(run), (secret,) if secret else ()
    else:
        image, secrets = None, ()
    if image is None:
        return adapter
    every = tuple(dict.fromkeys((*source.image_pull_secrets, *secrets)))
    found = source.model_copy(update={"image": image, "image_pull_secrets": every})
    return adapter.model_copy(update={"source": found})


def _pushed(run: Workspace) -> str | None:
    """Return the image by digest; while it is tuned again, that of the run before."""
    return run.status.tuning.output if run.status.tuning else None
