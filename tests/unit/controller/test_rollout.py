"""Deadlines and upgrades, judged at given times."""

from typing import Any

import pytest

from kaito_ray.api import conditions as c
from kaito_ray.api.status import Condition, WorkspaceStatus
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.deadline import allowed_s, watchful_s
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.rollout import deadline_s, rollout
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import RAY_SERVICES
from kaito_ray.render.service import service
from kaito_ray.testing.builders import pending_ray_service_status, ready_ray_service_status, workspace
from kaito_ray.testing.plans import cpu_plan, gpu_plan

SETTINGS = Settings(provider="local", rollout_deadline_s=600)
LOADING = pending_ray_service_status({"status": "DEPLOYING"})


def status(ready: bool, since: str = "2026-01-01T00:00:00Z") -> WorkspaceStatus:
    of_serving = [(c.RESOURCE_READY, True), (c.INFERENCE_READY, ready), (c.WORKSPACE_READY, ready)]
    return WorkspaceStatus(
        conditions=tuple(
            Condition(type=type_, status="True" if holds else "False", reason="r", last_transition_time=since)
            for type_, holds in of_serving
        )
    )


def seen(service: dict[str, Any], *, ready: bool = False, pods: tuple[dict[str, Any], ...] = ()) -> Observed:
    given = Workspace.from_wire(workspace()).with_status(status(ready))
    return Observed(given, workspace(), children={(RAY_SERVICES, "smol"): {"status": service}}, pods=pods)


def upgrading() -> dict[str, Any]:
    service = ready_ray_service_status()
    since = {"type": "UpgradeInProgress", "status": "True", "lastTransitionTime": "2026-01-01T01:00:00Z"}
    service["conditions"].append(since)
    service["pendingServiceStatus"] = {"rayClusterName": "smol-new"}
    return service


@pytest.mark.parametrize(("now", "reason"), [("00:09:59", c.INFERENCE_PENDING_REASON), ("00:10:00", "RolloutTimedOut")])
def test_a_rollout_is_stuck_from_its_deadline_on(now: str, reason: str) -> None:
    judged = rollout(seen(LOADING), cpu_plan(), SETTINGS, now=f"2026-01-01T{now}Z")
    assert (judged.serving.reason, judged.upgrade) == (reason, None)


def test_the_deadline_is_looked_at_when_it_passes() -> None:
    around = seen(LOADING)
    due = deadline_s(around.workspace.status, around, cpu_plan(), SETTINGS, now="2026-01-01T00:09:00Z")
    assert due == 61


def test_an_upgrade_that_is_stuck_is_told_beside_what_serves() -> None:
    early, late = (
        rollout(seen(upgrading(), ready=True), cpu_plan(), SETTINGS, now=f"2026-01-01T{now}Z")
        for now in ("01:05:00", "01:10:00")
    )
    assert early.serving.ready and late.serving.ready
    assert early.upgrade is not None and early.upgrade.reason == "ZeroDowntime"
    assert late.upgrade is not None and late.upgrade.reason == "RolloutTimedOut"


def test_an_upgrade_is_explained_by_the_pods_of_its_own_cluster() -> None:
    def pod(cluster: str, reason: str) -> dict[str, Any]:
        state = {"waiting": {"reason": reason, "message": "manifest unknown"}}
        labels = {"ray.io/cluster": cluster, "ray.io/node-type": "head"}
        return {
            "metadata": {"name": cluster, "uid": cluster, "labels": labels},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "ray", "image": "i", "state": state}]},
        }

    pods = (pod("smol-abcde", "CrashLoopBackOff"), pod("smol-new", "ErrImagePull"))
    judged = rollout(seen(upgrading(), ready=True, pods=pods), cpu_plan(), SETTINGS, now="2026-01-01T01:05:00Z")
    assert judged.upgrade is not None and judged.upgrade.reason == "ImagePullError"


def test_a_lost_head_is_the_reason_for_as_long_as_it_lasts() -> None:
    starting = ready_ray_service_status()
    starting["conditions"] = [{"type": "Ready", "status": "False", "reason": "ZeroServeEndpoints"}]
    starting["activeServiceStatus"]["applicationStatuses"] = {}
    at_first = seen(starting, ready=True)
    judged = rollout(at_first, cpu_plan(), SETTINGS, now="2026-01-01T00:05:00Z")
    since = Condition(type=c.INFERENCE_READY, status="False", reason=judged.serving.reason, last_transition_time="")
    later = Observed(
        at_first.workspace.with_status(WorkspaceStatus(conditions=(since,))), workspace(), children=at_first.children
    )
    again = rollout(later, cpu_plan(), SETTINGS, now="2026-01-01T00:05:30Z")
    assert (judged.serving.reason, again.serving.reason) == ("HeadPodLost", "HeadPodLost")


def test_big_models_are_given_more_time() -> None:
    assert allowed_s(cpu_plan(), None) == 30 * 60
    assert allowed_s(gpu_plan("deepseek-v3-0324"), None) == 180 * 60
    assert allowed_s(cpu_plan(), 5) == 5


@pytest.mark.parametrize(("waited", "again_s"), [("00:00:02", 6.0), ("00:01:00", 30.0), ("05:00:00", 300.0)])
def test_events_are_read_again_more_and_more_seldom(waited: str, again_s: float) -> None:
    assert watchful_s(status(False), f"2026-01-01T{waited}Z") == again_s
    assert watchful_s(status(True), f"2026-01-01T{waited}Z") is None


def test_the_service_moves_with_the_active_cluster_and_not_before() -> None:
    around = seen(upgrading(), ready=True)
    assert around.ray_cluster == "smol-abcde"
    swapped = upgrading() | {"activeServiceStatus": {"rayClusterName": "smol-new"}, "pendingServiceStatus": {}}
    assert service(around.workspace, seen(swapped).ray_cluster)["spec"]["selector"]["ray.io/cluster"] == "smol-new"
    assert "ray.io/cluster" not in service(around.workspace, seen(LOADING).ray_cluster)["spec"]["selector"]
