"""Whether the machines are there: NodeClaims and Nodes -> two conditions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.api import names
from kaito_ray.api.status import Condition
from kaito_ray.controller.cause import Cause
from kaito_ray.controller.claim_cause import of_claims
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.offers import is_ready
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.estimator.tuning import TuningPlan
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find, holds
from kaito_ray.render.template import Machines

_QUIET: Final = (c.NODE_CLAIM_NOT_READY_REASON, c.NODE_CLAIMS_READY_REASON)
_STAGES: Final = ("Launched", "Registered", "Initialized")
"""Conditions of a NodeClaim, in the order in which they come true."""
_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")


def claim_condition(
    claims: Sequence[Manifest],
    needed: int,
    *,
    failure: Cause | None = None,
    before: Condition | None = None,
) -> Condition:
    """Return `NodeClaimReady`.

    `failure` is why a machine does not come, with what is tried next; `before` is the condition as it was: a claim
    that failed is gone at once, so its word stands until the next one has a word of its own.
    """
    ready = [claim for claim in claims if holds(claim, "Ready")]
    if len(ready) >= needed:
        return _condition(c.NODE_CLAIM_READY, True, c.NODE_CLAIMS_READY_REASON, f"{len(ready)} machines provisioned")
    if failure is not None:
        return _condition(c.NODE_CLAIM_READY, False, failure.reason, failure.message[:256])
    waiting = next((claim for claim in claims if claim not in ready), None)
    undecided = waiting is None or not holds(waiting, "Launched")
    if (
        undecided
        and before is not None
        and before.reason not in (*_QUIET, find((waiting or {}).get("status"), "Launched").get("reason"))
    ):
        return _condition(c.NODE_CLAIM_READY, False, before.reason, before.message)
    if waiting is None:
        message = f"waiting for Karpenter: {len(ready)} of {needed} machines"
        return _condition(c.NODE_CLAIM_READY, False, c.NODE_CLAIM_NOT_READY_REASON, message)
    stage = next((s for s in _STAGES if not holds(waiting, s)), "Ready")
    found = find(waiting.get("status"), stage)
    reason = found.get("reason") or c.NODE_CLAIM_NOT_READY_REASON
    message = f"machine {len(ready) + 1} of {needed} is not {stage.lower()} yet: {found.get('message', '')}"[:256]
    if reason in (stage, "AwaitingReconciliation", "Unknown"):
        reason = c.NODE_CLAIM_NOT_READY_REASON
    return _condition(c.NODE_CLAIM_READY, False, reason, message.rstrip(": "))


def machines_condition(seen: Observed, needed: int, instance_types: Sequence[str]) -> Condition:
    """Return `NodeClaimReady` of a Workspace whose machines may be of any of those types."""
    meta = seen.workspace.metadata
    pool = names.node_pool(meta.namespace, meta.name)
    failure = of_claims(seen.node_claims, seen.warnings, pool, needed, instance_types)
    before = seen.workspace.status.condition(c.NODE_CLAIM_READY)
    return claim_condition(seen.node_claims, needed, failure=failure, before=before)


def nodes_condition(
    seen: Observed, plan: ServingPlan | TuningPlan | Machines, used: Sequence[str], *, needed: int | None = None
) -> Condition:
    """Return `NodesReady`; `used` are the nodes that count, `needed` how many must be ready, by default the plan's."""
    needed = plan.nodes if needed is None else needed
    nodes = [node for node in seen.nodes if node["metadata"]["name"] in used]
    ready = [node for node in nodes if is_ready(node)]
    warning = "".join(
        f"; warning: {node['metadata']['name']} has {pressure}"
        for node in nodes
        for pressure in _PRESSURES
        if holds(node, pressure)
    )
    if len(ready) < needed:
        message = f"{len(ready)} of {needed} nodes are ready{warning}"
        return _condition(c.NODES_READY, False, c.NODE_NOT_READY_REASON, message)
    if plan.machine.device == "cuda":
        without = [n["metadata"]["name"] for n in ready if not _has(n, plan.machine.gpu_resource)]
        if len(ready) - len(without) < needed:
            message = (
                f"{', '.join(without)} reports no {plan.machine.gpu_resource}; is NVIDIA's device plugin installed?"
            )
            return _condition(c.NODES_READY, False, "NodePluginsNotReady", message)
    return _condition(c.NODES_READY, True, c.NODES_READY_REASON, f"{len(ready)} nodes are ready{warning}")


def used_nodes(seen: Observed, provisioned: bool) -> tuple[str, ...]:
    """Return the names of the nodes in use: those of the claims, or those that are selected."""
    if not provisioned:
        return tuple(sorted(node["metadata"]["name"] for node in seen.nodes))
    named = {claim.get("status", {}).get("nodeName") for claim in seen.node_claims}
    return tuple(sorted(name for name in named if name))


def _has(node: Manifest, resource: str) -> bool:
    return int((node.get("status", {}).get("allocatable") or {}).get(resource, 0)) > 0


def _condition(type_: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="True" if holds else "False", reason=reason, message=message)
