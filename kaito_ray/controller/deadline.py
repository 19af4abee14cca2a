"""How long a rollout may take, and whether it took longer: nothing in KubeRay or Ray ever gives up waiting. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import WorkspaceStatus
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.kube.conditions import find

_BASE_S: Final = 15 * 60
_PER_GIB_S: Final = 18
"""A slow download: 57 MiB/s."""
_LEAST_S, _MOST_S = 30 * 60, 180 * 60
"""KAITO's bounds of its startup probe."""
_SOONEST_S, _LATEST_S = 6.0, 300.0


def allowed_s(plan: ServingPlan, configured_s: int | None) -> int:
    """Return the seconds that a rollout may take from ready machines to an answer: by the size of the weights."""
    if configured_s:
        return configured_s
    by_size = _BASE_S + _PER_GIB_S * plan.preset.weights_bytes / 2**30
    return int(min(max(by_size, _LEAST_S), _MOST_S))


def started(status: WorkspaceStatus) -> str | None:
    """Return since when serving has been waited for with its machines ready; None: it is not waited for."""
    resource, inference = (status.condition(type_) for type_ in (c.RESOURCE_READY, c.INFERENCE_READY))
    if not (resource and inference and resource.status == "True" and inference.status == "False"):
        return None
    return max(resource.last_transition_time, inference.last_transition_time)


def upgrade_started(service: dict[str, Any] | None) -> str | None:
    """Return since when KubeRay has been bringing up a second cluster beside the serving one; None: it is not."""
    upgrade = find((service or {}).get("status"), "UpgradeInProgress")
    return str(upgrade.get("lastTransitionTime") or "") if upgrade.get("status") == "True" else None


def left_s(since: str | None, allowed: int, now: str) -> float | None:
    """Return the seconds until the deadline, 0 where it has passed; None where nothing is waited for."""
    if not since:
        return None
    return max(0.0, allowed - (_instant(now) - _instant(since)).total_seconds())


def seconds_between(since: str | None, now: str) -> float:
    """Return the seconds from one time to another, both RFC 3339; none where the first is not known."""
    return (_instant(now) - _instant(since)).total_seconds() if since else 0.0


def watchful_s(status: WorkspaceStatus, now: str) -> float | None:
    """Return how soon to read the Events again that nobody tells us of; None where all is well.

    Half of the time that was waited so far: news comes early, and a thousand that wait for capacity cost nothing.
    """
    ready = status.condition(c.WORKSPACE_READY)
    if ready is None or ready.status == "True":
        return None
    waited = (_instant(now) - _instant(ready.last_transition_time)).total_seconds()
    return min(max(waited / 2, _SOONEST_S), _LATEST_S)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
