"""NodeClaims that the operator makes itself (`nodeclaim`): how many, of what type, and when again. Pure.

A claim that failed is deleted by Karpenter at once, and nothing makes another. Our finalizer keeps it until it is seen
here, and that is all the memory there is: a claim being deleted that never became a node is a failed try, its successor is
of the next instance type of the list, and once the list is through there is a pause before it begins again. An operator
that is killed between the two writes, of the successor and of the finalizer, finds the successor and lets the other go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kaito_ray.api import names
from kaito_ray.controller.deadline import seconds_between
from kaito_ray.controller.decide import Action, Create, deletion, held, leaving, released
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.scaling import target_machines
from kaito_ray.kube.cluster import NODE_CLAIMS, Manifest
from kaito_ray.kube.conditions import holds
from kaito_ray.render.inputs import ServingInputs
from kaito_ray.render.nodeclaim import nodeclaim
from kaito_ray.render.nodes import NodeInputs
from kaito_ray.render.scaling import by_machines

_PAUSE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 300.0
"""Providers remember for some minutes what they could not give, and do not like to be asked again and again."""


def claim_steps(seen: Observed, inputs: NodeInputs, *, now: str) -> tuple[Action, ...]:
    """Return the steps towards as many claims as the plan needs machines; none with any other provisioner."""
    if inputs.provisioner != "nodeclaim":
        return ()
    alive = [claim for claim in seen.node_claims if not leaving(claim)]
    missing = machines_needed(seen, _planned(seen, inputs)) - len(alive)
    failed = [claim for claim in seen.node_claims if leaving(claim) and held(claim) and not _was_a_node(claim)]
    remembered = failed[: max(missing, 0)]
    steps: list[Action] = []
    serial = 1 + max((_number(claim, names.CLAIM_SERIAL_LABEL) for claim in seen.node_claims), default=-1)
    for index in range(missing):
        before = remembered[index] if index < len(remembered) else None
        if before is not None and pause_left_s(before, len(inputs.instance_types), now) > 0:
            continue
        tries = tries_of(before) + 1 if before else 0
        steps.append(Create(NODE_CLAIMS, nodeclaim(inputs, serial, tries)))
        serial += 1
        if before is not None:
            steps.append(released(before))
    steps += [released(claim) for claim in seen.node_claims if _over(claim, remembered)]
    for claim in _spare(seen, alive, -missing):
        steps += deletion(NODE_CLAIMS, claim)
    return tuple(steps)


def machines_needed(seen: Observed, planned: int) -> int:
    """Return how many machines there must be: KubeRay upgrades by a second cluster beside the first."""
    return 2 * planned if holds(seen.ray_service, "UpgradeInProgress") else planned


def _planned(seen: Observed, inputs: NodeInputs) -> int:
    if not isinstance(inputs, ServingInputs):
        return inputs.plan.nodes
    now = target_machines(inputs.plan, seen.workspace, seen.replicas)
    if not by_machines(inputs):
        return now
    # Load asks for fewer. It is told first, and given back in the next look, which knows the machines that hold pods.
    return max(now, seen.workspace.status.target_node_count or 0)


def pause_s(seen: Observed, instance_types: int, now: str) -> float | None:
    """Return how soon a claim may be made again; None where none waits for that."""
    left = [pause_left_s(c, instance_types, now) for c in seen.node_claims if leaving(c) and held(c)]
    return min((seconds for seconds in left if seconds > 0), default=None)


def pause_left_s(claim: Manifest, instance_types: int, now: str) -> float:
    """Return the seconds until another is tried in place of this one: none while there are types that were not tried."""
    rounds, rest = divmod(tries_of(claim) + 1, instance_types)
    if rest or _was_a_node(claim):
        return 0.0
    pause: float = min(_PAUSE_S * 2 ** min(rounds - 1, 10), _LONGEST_PAUSE_S)
    return max(0.0, pause - seconds_between(claim["metadata"].get("deletionTimestamp"), now))


def tries_of(claim: Manifest) -> int:
    """Return how many claims failed before this one, one after the other."""
    return _number(claim, names.CLAIM_TRIES_LABEL)


def _spare(seen: Observed, alive: Sequence[Manifest], many: int) -> list[Manifest]:
    """Return claims to give back, after an upgrade: machines that hold no pod, those that are no node yet first."""
    if many <= 0:
        return []
    busy = {(pod.get("spec") or {}).get("nodeName") for pod in seen.pods} - {None}
    idle = [claim for claim in alive if (claim.get("status") or {}).get("nodeName") not in busy]
    return sorted(idle, key=_was_a_node)[:many]


def _over(claim: Manifest, remembered: Sequence[Manifest]) -> bool:
    return leaving(claim) and held(claim) and claim not in remembered


def _was_a_node(claim: Manifest) -> bool:
    return holds(claim, "Initialized")


def _number(claim: Manifest, label: str) -> int:
    text = (claim["metadata"].get("labels") or {}).get(label, "")
    return int(text) if text.isdecimal() else 0
