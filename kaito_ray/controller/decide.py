"""Observed and desired -> what to do next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaito_ray.api import names
from kaito_ray.controller.desired import drifted, updated
from kaito_ray.controller.observe import Child, Observed
from kaito_ray.kube.cluster import (
    DEPLOYMENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    RAY_JOBS,
    RAY_SERVICES,
    WORKSPACES,
    Manifest,
    Resource,
)


@dataclass(frozen=True)
class Create:
    """Make an object that is missing."""

    resource: Resource
    manifest: Manifest


@dataclass(frozen=True)
class Replace:
    """Write over an object that differs."""

    resource: Resource
    manifest: Manifest


@dataclass(frozen=True)
class Delete:
    """Ask for the deletion of that very object."""

    resource: Resource
    name: str
    namespace: str | None
    uid: str
    orphan: bool = False
    """Whether what it owns is kept."""


Action = Create | Replace | Delete


def hold(seen: Observed) -> tuple[Action, ...]:
    """Return the step that makes a deletion wait for us, where it does not yet."""
    finalizers = seen.workspace.metadata.finalizers
    if names.FINALIZER in finalizers:
        return ()
    return (Replace(WORKSPACES, _with_finalizers(seen, (*finalizers, names.FINALIZER))),)


def decide(seen: Observed, wanted: Mapping[Child, Manifest]) -> tuple[Action, ...]:
    """Return the steps from what is to what should be; none where nothing differs.

    What is being deleted is waited for: its disappearance brings us back.
    """
    steps: list[Action] = []
    for (resource, name), manifest in wanted.items():
        live = seen.children.get((resource, name))
        if live is None:
            steps.append(Create(resource, manifest))
        elif "deletionTimestamp" not in live["metadata"] and drifted(manifest, live):
            steps.append(Replace(resource, updated(manifest, live)))
    return tuple(steps)


def dismantle(seen: Observed) -> tuple[Action, ...]:
    """Return the steps of a deletion: pods first, then their machines, then the finalizer; none while waiting.

    Pods that must not be disrupted would hold up the draining of their node, so the machines wait for them. The other
    children go by themselves, for the Workspace owns them.
    """
    if names.FINALIZER not in seen.workspace.metadata.finalizers:
        return ()
    if (service := seen.ray_service) is not None:
        return _deletion(RAY_SERVICES, service)
    if (job := seen.ray_job) is not None:
        return _deletion(RAY_JOBS, job)
    if (deployment := seen.deployment) is not None:
        return _deletion(DEPLOYMENTS, deployment)
    if not all(map(_of_kaito, seen.pods)):
        return ()
    if (pool := seen.node_pool) is not None:
        return _deletion(NODE_POOLS, pool)
    if seen.node_claims:
        # Those of KAITO's that were taken over belong to no NodePool that could take them along.
        return next((step for claim in seen.node_claims if (step := _unowned(claim))), ())
    rest = tuple(name for name in seen.workspace.metadata.finalizers if name != names.FINALIZER)
    return (Replace(WORKSPACES, _with_finalizers(seen, rest)),)


def _of_kaito(pod: Manifest) -> bool:
    """Return whether a StatefulSet made the pod: none of ours does, and KAITO's go with the Workspace, after us."""
    return any(owner["kind"] == "StatefulSet" for owner in pod["metadata"].get("ownerReferences") or ())


def _unowned(claim: Manifest) -> tuple[Action, ...]:
    owners = claim["metadata"].get("ownerReferences") or ()
    return () if any(owner["kind"] == NODE_POOLS.kind for owner in owners) else _deletion(NODE_CLAIMS, claim)


def _deletion(resource: Resource, live: Manifest) -> tuple[Action, ...]:
    meta = live["metadata"]
    if "deletionTimestamp" in meta:
        return ()
    return (Delete(resource, meta["name"], meta.get("namespace"), meta["uid"]),)


def _with_finalizers(seen: Observed, finalizers: tuple[str, ...]) -> Manifest:
    return {**seen.manifest, "metadata": {**seen.manifest["metadata"], "finalizers": list(finalizers)}}
