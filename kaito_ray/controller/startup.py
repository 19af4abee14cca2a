"""How long each phase of a Workspace's first start took. Pure: every time is one that somebody else wrote down.

Kubernetes' conditions say when a machine, Ray's head and the endpoint were ready, to the second; the replica says when
its weights and its engine were. Once the model has answered, the record stays: a later upgrade is not a first start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import Condition, PhaseName, StartPhase, WorkspaceStatus
from kaito_ray.controller.deadline import seconds_between
from kaito_ray.controller.observe import Observed
from kaito_ray.kube.conditions import find

ANSWERING: Final = "Answering"


def answered(status: WorkspaceStatus) -> bool:
    """Return whether the record is whole."""
    return any(phase.name == ANSWERING for phase in status.startup)


def startup(seen: Observed, conditions: Sequence[Condition], *, now: str) -> tuple[StartPhase, ...]:
    """Return the phases that have ended, in order; `conditions` are those of the status that is being written.

    A phase whose end nobody wrote down is left out, and its time counts for the next one.
    """
    recorded = seen.workspace.status.startup
    if answered(seen.workspace.status):
        return recorded
    known = {phase.name: phase.at for phase in recorded}
    cluster, replica = _cluster(seen), seen.replica_start
    ended: dict[PhaseName, str | None] = {
        "Planned": now,
        "MachineReady": _since(conditions, c.NODES_READY),
        "RayReady": _head_ready(cluster),
        # Serve dates nothing that KubeRay passes on: what counts is when its first word was seen.
        "ServeReady": now if cluster.get("applicationStatuses") else None,
        "WeightsReady": replica.weights if replica else None,
        "EngineReady": replica.engine if replica else None,
        ANSWERING: _since(conditions, c.INFERENCE_READY),
    }
    phases: list[StartPhase] = []
    before = seen.workspace.metadata.creation_timestamp or now
    for name, seen_at in ended.items():
        if (at := known.get(name) or seen_at) is not None:
            # Clocks of several machines, and whole seconds: what ended may seem to have ended before what it waited for.
            phases.append(StartPhase(name=name, at=at, seconds=max(0, round(seconds_between(before, at)))))
            before = max(before, at)
    return tuple(phases)


def _since(conditions: Sequence[Condition], type_: str) -> str | None:
    found = next((condition for condition in conditions if condition.type == type_), None)
    holds = found is not None and found.status == "True" and found.reason != c.SCALED_TO_ZERO_REASON
    return found.last_transition_time if found is not None and holds else None


def _cluster(seen: Observed) -> Mapping[str, Any]:
    """Return what KubeRay says of the cluster that starts, or, once it serves, of that."""
    status = (seen.ray_service or {}).get("status") or {}
    pending: Mapping[str, Any] = status.get("pendingServiceStatus") or {}
    return pending if pending.get("rayClusterName") else status.get("activeServiceStatus") or {}


def _head_ready(cluster: Mapping[str, Any]) -> str | None:
    condition = find(cluster.get("rayClusterStatus"), "HeadPodReady")
    return condition["lastTransitionTime"] if condition.get("status") == "True" else None
