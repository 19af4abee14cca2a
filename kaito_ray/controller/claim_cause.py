"""Why a machine does not come: the provider's words on a NodeClaim, or the Event about one that is gone. Pure.

Karpenter deletes a NodeClaim that meets no capacity at once, and says why in an Event alone; gpu-provisioner and the
clouds' own plug-ins write a reason into `Launched`. What hinders a machine later, on its way into the cluster, stands in
`Registered` and `Initialized`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito_ray.controller.cause import Cause, Sign, recognised
from kaito_ray.controller.claims import tries_of
from kaito_ray.controller.decide import held
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find, holds
from kaito_ray.render.nodeclaim import type_of

_STAGES: Final = ("Launched", "Registered", "Initialized")
_NO_NEWS: Final = (*_STAGES, "AwaitingReconciliation", "Unknown", "NodeNotFound", "NodeNotReady", "LaunchFailed", "")
"""Reasons that say no more than the stage does."""

_SIGNS: Final = (
    Sign(r"(?i)quota|VcpuLimitExceeded|vCPU limit|MaxSpotInstanceCount", "QuotaExceeded", "the provider's quota is used up"),
    Sign(
        r"(?i)insufficient.?capacity|SKUNotAvailable|AllocationFail|ZonalAllocation|no capacity|out of capacity|unavailable",
        "InsufficientCapacity",
        "the provider has no capacity",
    ),
    Sign(r"NodeClassNotReady|NodeClassReadinessUnknown", "NodeClassNotReady", "the NodeClass is not ready; describe it"),
)  # fmt: skip
_AFTER_LAUNCH: Final = {
    "ResourceNotRegistered": "the node does not report its GPUs; is NVIDIA's device plugin installed?",
    "StartupTaintsExist": "a startup taint stands; what removes it is missing",
    "KnownEphemeralTaintsExist": "a taint of a new node stands; look at its kubelet and its network",
}
"""What Karpenter's reasons mean once the machine runs; at the start each stands for some seconds."""
_JOINING: Final = {
    "Registered": ("did not join the cluster", "after 15 min another is made"),
    "Initialized": ("is in the cluster and takes no pods yet", "nothing else is tried"),
}
"""Stage -> what is not done, and what will be tried next."""


def of_claims(
    claims: Sequence[Manifest], warnings: Sequence[Manifest], pool: str, needed: int, instance_types: Sequence[str]
) -> Cause | None:
    """Return why a machine is not there and what is tried next; None where nothing failed.

    `pool` is the NodePool, whose name leads those of its claims; `instance_types` are those that will do, and `needed`
    is how many machines.
    """
    for claim in claims:
        stage = next((name for name in _STAGES if not holds(claim, name)), None)
        if stage == "Launched":
            cause = _cause(find(claim.get("status"), stage), _next(claim, instance_types))
        else:
            cause = _joining(claim, stage) if stage else None
        if cause is not None:
            return cause
    launched = [claim for claim in claims if holds(claim, "Launched")]
    if len(launched) >= needed:
        return None
    since = max(
        (str(find(one.get("status"), "Launched").get("lastTransitionTime") or "") for one in launched), default=""
    )
    known = {claim["metadata"]["name"]: claim for claim in claims}
    about = [event for event in warnings if _is_about(event, pool, known) and _time(event) > since]
    latest = max(about, key=_time, default=None)
    if latest is None:
        return None
    return _cause(latest, _next(known.get(latest["involvedObject"]["name"]), instance_types))


def _is_about(event: Mapping[str, Any], pool: str, known: Mapping[str, Manifest]) -> bool:
    name = str(event["involvedObject"].get("name", ""))
    return name.startswith(f"{pool}-") or name in known


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _next(claim: Manifest | None, instance_types: Sequence[str]) -> str:
    """Return what will be tried after a failure, in words: by Karpenter, or by us where the claim is ours."""
    if len(instance_types) < 2:
        return "trying again; or name others in resource.instanceTypes"
    if claim is None or not held(claim):
        return f"next: {', '.join(instance_types[1:3])}"
    return f"next: {type_of(tries_of(claim) + 1, tuple(instance_types))}"


def _joining(claim: Manifest, stage: str) -> Cause | None:
    """Return what hinders a machine that runs; None while it is only on its way."""
    told = find(claim.get("status"), stage)
    reason, said = str(told.get("reason") or ""), str(told.get("message") or "")
    if reason in _NO_NEWS:
        return None
    undone, then = _JOINING[stage]
    meaning = _AFTER_LAUNCH.get(reason)
    what = f"a machine {undone}" + (f": {meaning}" if meaning else f" ({reason})")
    return Cause(reason, f"{what}; {then}" + (f": {said}" if said else ""))


def _cause(told: Mapping[str, Any], then: str) -> Cause | None:
    """Return what a condition or an Event means; the provider's reason is kept where it is one."""
    reason, said = str(told.get("reason") or ""), str(told.get("message") or "")
    found = recognised(f"{reason} {said}", _SIGNS)
    if reason in _NO_NEWS and found is None:
        return None
    what = found.message if found else f"the machine is not launched ({reason})"
    word = found.reason if found and reason in _NO_NEWS else reason
    return Cause(word, f"{what}; {then}" + (f": {said}" if said else ""))
