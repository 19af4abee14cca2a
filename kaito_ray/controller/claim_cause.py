"""Why a machine does not come: the provider's words on a NodeClaim, or the Event about one that is gone. Pure.

Karpenter deletes a NodeClaim that meets no capacity at once, and says why in an Event alone; gpu-provisioner and the
clouds' own plug-ins write a reason into `Launched`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito_ray.controller.cause import Cause, Sign, recognised
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find, holds

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


def of_claims(
    claims: Sequence[Manifest], warnings: Sequence[Manifest], pool: str, instance_types: Sequence[str]
) -> Cause | None:
    """Return why a machine is not launched and what is tried next; None where nothing failed.

    `pool` is the NodePool, whose name leads those of its claims; `instance_types` are those that will do.
    """
    for claim in claims:
        launched = find(claim.get("status"), "Launched")
        if launched.get("status") != "True" and (cause := _cause(launched, instance_types)):
            return cause
    about = [event for event in warnings if event["involvedObject"].get("name", "").startswith(f"{pool}-")]
    latest = max(about, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
    if latest is None or any(holds(claim, "Launched") for claim in claims):
        return None
    return _cause(latest, instance_types)


def _next(instance_types: Sequence[str]) -> str:
    """Return what will be tried after a failure, in words."""
    if len(instance_types) < 2:
        return "trying again; or name others in resource.instanceTypes"
    return f"next: {', '.join(instance_types[1:3])}"


def _cause(told: Mapping[str, Any], instance_types: Sequence[str]) -> Cause | None:
    """Return what a condition or an Event means; the provider's reason is kept where it is one."""
    reason, said = str(told.get("reason") or ""), str(told.get("message") or "")
    found = recognised(f"{reason} {said}", _SIGNS)
    if reason in _NO_NEWS and found is None:
        return None
    what = found.message if found else f"the machine is not launched ({reason})"
    word = found.reason if found and reason in _NO_NEWS else reason
    return Cause(word, f"{what}; {_next(instance_types)}" + (f": {said}" if said else ""))
