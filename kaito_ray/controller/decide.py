"""Observed and desired -> what to do next. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        elif not leaving(live) and drifted(manifest, live):
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
        return deletion(RAY_SERVICES, service)
    if jobs := [job for job in (seen.data_check, seen.ray_job) if job is not None]:
        return tuple(step for job in jobs for step in deletion(RAY_JOBS, job))
    if (deployment := seen.deployment) is not None:
        return deletion(DEPLOYMENTS, deployment)
    if not all(map(_of_kaito, seen.pods)):
        return ()
    if (pool := seen.node_pool) is not None:
        return deletion(NODE_POOLS, pool)
    if seen.node_claims:
        return give_back(seen.node_claims)
    rest = tuple(name for name in seen.workspace.metadata.finalizers if name != names.FINALIZER)
    return (Replace(WORKSPACES, _with_finalizers(seen, rest)),)


def _of_kaito(pod: Manifest) -> bool:
    """Return whether a StatefulSet made the pod: none of ours does, and KAITO's go with the Workspace, after us."""
    return any(owner["kind"] == "StatefulSet" for owner in pod["metadata"].get("ownerReferences") or ())


def give_back(claims: Sequence[Manifest]) -> tuple[Action, ...]:
    """Return the steps that delete NodeClaims, and let them go that wait for us.

    Those of a NodePool go with it; the others are the operator's, or KAITO's that were taken over.
    """
    alone = [claim for claim in claims if not _of_pool(claim)]
    gone = [released(claim) for claim in alone if leaving(claim) and held(claim)]
    return (*gone, *(step for claim in alone for step in deletion(NODE_CLAIMS, claim)))


def _of_pool(claim: Manifest) -> bool:
    return any(owner["kind"] == NODE_POOLS.kind for owner in claim["metadata"].get("ownerReferences") or ())


def deletion(resource: Resource, live: Manifest) -> tuple[Action, ...]:
    """Return the step that deletes an object; none where that is under way."""
    meta = live["metadata"]
    return () if leaving(live) else (Delete(resource, meta["name"], meta.get("namespace"), meta["uid"]),)


def released(claim: Manifest) -> Action:
    """Return the step after which a NodeClaim no longer waits for us."""
    meta = claim["metadata"]
    rest = [name for name in meta["finalizers"] if name != names.CLAIM_FINALIZER]
    return Replace(NODE_CLAIMS, {**claim, "metadata": {**meta, "finalizers": rest}})


def leaving(live: Manifest) -> bool:
    """Return whether an object is being deleted."""
    return "deletionTimestamp" in live["metadata"]


def held(claim: Manifest) -> bool:
    """Return whether a NodeClaim waits for us when it is deleted: then the operator made it."""
    return names.CLAIM_FINALIZER in (claim["metadata"].get("finalizers") or ())


def _with_finalizers(seen: Observed, finalizers: tuple[str, ...]) -> Manifest:
    return {**seen.manifest, "metadata": {**seen.manifest["metadata"], "finalizers": list(finalizers)}}
