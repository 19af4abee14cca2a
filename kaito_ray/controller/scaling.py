"""A Workspace whose replicas come and go by load: how many there are, and what that means for its status. Pure.

Scaled to zero it is ready: requests wait in the head's proxy while a replica starts. Any request wakes it, so nobody
who only looks may send one.
"""

from __future__ import annotations

from math import ceil, inf
from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import ReplicaStatus, WorkspaceStatus
from kaito_ray.api.workspace import Autoscaling, Workspace
from kaito_ray.controller.progress import UNHEALTHY, Progress
from kaito_ray.estimator.plan import ServingPlan

_LOOK_AGAIN_S: Final = 15.0
"""How often replicas are counted: nothing tells us when load changes their number."""
_LOOK_SOON_S: Final = 5.0
"""The same while some are on their way."""


def autoscaling(workspace: Workspace) -> Autoscaling | None:
    """Return what the Workspace says of its replicas' number."""
    return workspace.inference.autoscaling if workspace.inference else None


def look_again_s(workspace: Workspace, replicas: ReplicaStatus | None) -> float:
    """Return how soon to count replicas again; infinite where they are not scaled."""
    if autoscaling(workspace) is None:
        return inf
    return _LOOK_SOON_S if replicas is not None and replicas.ready != replicas.desired else _LOOK_AGAIN_S


def asleep(replicas: ReplicaStatus | None) -> bool:
    """Return whether a request would have to wait for a replica, or wake one up."""
    return replicas is not None and replicas.ready == 0


def with_replicas(found: Progress, replicas: ReplicaStatus | None, workspace: Workspace) -> Progress:
    """Return the progress, seen by all replicas: KubeRay tells of the application, which one of them can fail."""
    scaling = autoscaling(workspace)
    if scaling is None or replicas is None:
        return found
    if found.reason == UNHEALTHY and replicas.ready:
        return Progress(True, c.INFERENCE_READY_REASON, "the model answers; a replica failed and is replaced")
    if not found.ready or replicas.ready or scaling.min_replicas:
        return found
    if replicas.desired:
        return Progress(True, c.SCALED_TO_ZERO_REASON, "scaled to zero; a replica starts, and requests wait for it")
    return Progress(
        True, c.SCALED_TO_ZERO_REASON, "scaled to zero; the next request starts a replica, and waits for it"
    )


def needed_machines(plan: ServingPlan, workspace: Workspace) -> int:
    """Return the machines without which the Workspace is not ready: those of the fewest replicas that it may have."""
    scaling = autoscaling(workspace)
    if scaling is None or plan.machine.device != "cuda":
        return plan.nodes
    # The first replica has to prove that the model can be served; after that there may be none.
    return plan.nodes * max(scaling.min_replicas, 0 if _has_served(workspace.status) else 1)


def target_machines(plan: ServingPlan, workspace: Workspace, replicas: ReplicaStatus | None) -> int:
    """Return the machines that the replicas need which should run now."""
    if replicas is None or plan.machine.device != "cuda":
        return needed_machines(plan, workspace)
    return plan.nodes * ceil(replicas.desired / plan.data_parallel)


def missing(replicas: ReplicaStatus | None, workspace: Workspace) -> str | None:
    """Return what to say while no replica answers, or fewer than should."""
    if autoscaling(workspace) is None or replicas is None:
        return None
    if replicas.ready < replicas.desired:
        return f"{replicas.ready} of {replicas.desired} replicas answer"
    return None if replicas.ready else "scaled to zero"


def _has_served(status: WorkspaceStatus) -> bool:
    return status.state in ("Ready", "NotReady")
