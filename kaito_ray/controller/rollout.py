"""Serving, judged: how far it is, why it is no further, and whether that takes too long. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import WorkspaceStatus
from kaito_ray.controller.deadline import allowed_s, left_s, started, upgrade_started, watchful_s
from kaito_ray.controller.diagnosis import diagnosed
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.pod_cause import HEAD_POD_LOST
from kaito_ray.controller.progress import Progress, progress
from kaito_ray.controller.scaling import with_replicas
from kaito_ray.controller.settings import Settings
from kaito_ray.estimator.plan import ServingPlan

TIMED_OUT: Final = "RolloutTimedOut"
UPGRADING: Final = "ZeroDowntime"


@dataclass(frozen=True)
class Rollout:
    """One judgement."""

    serving: Progress
    upgrade: Progress | None
    """The second cluster beside the serving one, while there is one; never ready: then it serves."""


def rollout(seen: Observed, plan: ServingPlan, settings: Settings, *, now: str) -> Rollout:
    """Return where serving stands; `now` is RFC 3339."""
    before = seen.workspace.status.condition(c.INFERENCE_READY)
    was_ready = before is not None and before.status == "True"
    allowed = allowed_s(plan, settings.rollout_deadline_s)
    # A loss stays the reason for as long as it lasts, not only in the first look after it.
    lost = was_ready or (before is not None and before.reason == HEAD_POD_LOST)
    said = with_replicas(progress(seen.ray_service, was_ready=was_ready), seen.replicas, seen.workspace)
    found = diagnosed(said, seen, was_ready=lost)
    left = None if found.ready else left_s(started(seen.workspace.status), allowed, now)
    upgrade = None
    if found.ready and (since := upgrade_started(seen.ray_service)) is not None:
        upgrade = _judged(_of_second_cluster(seen), left_s(since, allowed, now), allowed)
    return Rollout(_judged(found, left, allowed), upgrade)


def deadline_s(status: WorkspaceStatus, seen: Observed, plan: ServingPlan, settings: Settings, *, now: str) -> float:
    """Return after how many seconds time alone may change the judgement; infinite where it cannot."""
    allowed = allowed_s(plan, settings.rollout_deadline_s)
    ahead = [left_s(since, allowed, now) for since in (started(status), upgrade_started(seen.ray_service))]
    return min(watchful_s(status, now) or inf, *(seconds + 1 for seconds in ahead if seconds), inf)


def _judged(found: Progress, left: float | None, allowed: int) -> Progress:
    if found.ready or left is None or left > 0:
        return found
    if found.reason in (c.INFERENCE_PENDING_REASON, UPGRADING):
        return Progress(False, TIMED_OUT, f"not ready after {_duration(allowed)}: {found.message}")
    return Progress(False, found.reason, f"{found.message} (for more than {_duration(allowed)})")


def _of_second_cluster(seen: Observed) -> Progress:
    """Return how far the cluster is that is to take over, seen by itself."""
    service: dict[str, Any] = seen.ray_service or {}
    pending = (service.get("status") or {}).get("pendingServiceStatus") or {}
    alone = {**service, "status": {"pendingServiceStatus": pending}}
    key = next(child for child, manifest in seen.children.items() if manifest is seen.ray_service)
    mine = pending.get("rayClusterName")
    pods = tuple(pod for pod in seen.pods if (pod["metadata"].get("labels") or {}).get("ray.io/cluster") == mine)
    around = replace(seen, children={**seen.children, key: alone}, pods=pods)
    found = diagnosed(progress(alone, was_ready=False), around, was_ready=False)
    word = UPGRADING if found.reason == c.INFERENCE_PENDING_REASON else found.reason
    return Progress(False, word, found.message)


def _duration(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
