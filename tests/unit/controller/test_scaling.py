"""A Workspace whose replicas come and go: counted, judged, and brought into its status."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from kaito_ray.api import conditions as c
from kaito_ray.api.status import ReplicaStatus, WorkspaceStatus
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller import scaling
from kaito_ray.controller.progress import UNHEALTHY, Progress
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import NODES, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import adapter, merged, node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas
from kaito_ray.testing.plans import cpu_plan, gpu_plan

ANSWERS = Progress(True, c.INFERENCE_READY_REASON, "the model answers")
FAILED = Progress(False, UNHEALTHY, "the replica does not answer")


def scaled(low: int = 0, high: int = 3) -> Workspace:
    return Workspace.from_wire(manifest(low, high))


def manifest(low: int = 0, high: int = 3) -> Manifest:
    return workspace(inference={"autoscaling": {"minReplicas": low, "maxReplicas": high}})


@pytest.mark.parametrize(
    ("found", "replicas", "reason", "ready"),
    [
        pytest.param(ANSWERS, None, ANSWERS.reason, True, id="not counted yet"),
        pytest.param(ANSWERS, ReplicaStatus(desired=2, ready=1), ANSWERS.reason, True, id="one more is coming"),
        pytest.param(ANSWERS, ReplicaStatus(desired=0, ready=0), "ScaledToZero", True, id="asleep"),
        pytest.param(ANSWERS, ReplicaStatus(desired=1, ready=0), "ScaledToZero", True, id="waking up"),
        pytest.param(FAILED, ReplicaStatus(desired=2, ready=1), ANSWERS.reason, True, id="one of several failed"),
        pytest.param(FAILED, ReplicaStatus(desired=1, ready=0), UNHEALTHY, False, id="the only one failed"),
    ],
)
def test_serving_is_judged_by_all_replicas(
    found: Progress, replicas: ReplicaStatus | None, reason: str, ready: bool
) -> None:
    judged = scaling.with_replicas(found, replicas, scaled())
    assert (judged.reason, judged.ready) == (reason, ready)


def test_without_autoscaling_nothing_is_judged_by_number() -> None:
    alone = Workspace.from_wire(workspace())
    assert scaling.with_replicas(FAILED, ReplicaStatus(desired=2, ready=1), alone) == FAILED


def test_machines_are_needed_for_the_fewest_replicas_and_wanted_for_those_that_load_asks_for() -> None:
    plan = gpu_plan(nodes=2)
    assert scaling.needed_machines(plan, scaled(2)) == 4
    assert scaling.target_machines(plan, scaled(2), ReplicaStatus(desired=3, ready=2)) == 6
    assert scaling.target_machines(plan, scaled(2), None) == 4


def test_the_first_replica_needs_its_machine_also_where_there_may_be_none() -> None:
    fresh = scaled(0)
    assert scaling.needed_machines(gpu_plan(), fresh) == 1
    assert scaling.needed_machines(gpu_plan(), fresh.with_status(WorkspaceStatus(state="Ready"))) == 0


def test_copies_on_one_machine_count_as_one_machine() -> None:
    plan = gpu_plan(tensor_parallel=1, data_parallel=2)
    assert scaling.target_machines(plan, scaled(0), ReplicaStatus(desired=3, ready=3)) == 2


def test_on_a_cpu_all_replicas_share_the_one_machine() -> None:
    assert scaling.target_machines(cpu_plan(), scaled(0), ReplicaStatus(desired=3, ready=3)) == 1


def test_they_are_counted_sooner_while_some_are_on_their_way() -> None:
    coming, there = ReplicaStatus(desired=2, ready=1), ReplicaStatus(desired=2, ready=2)
    assert scaling.look_again_s(scaled(), coming) < scaling.look_again_s(scaled(), there)
    assert scaling.look_again_s(Workspace.from_wire(workspace()), None) == float("inf")


SETTINGS = Settings(provider="azure", provisioner="byo", worker_image="registry.example.com/worker:1")


async def told(
    replicas: FakeReplicas, given: Manifest, *looks: ReplicaStatus | None, serving: Manifest | None = None
) -> tuple[FakeCluster, Any]:
    """Serve a Workspace, let Ray say each of `looks` in turn, and return the cluster and the status at the end."""
    cluster = FakeCluster()
    await cluster.create(NODES, node(metadata={"labels": {"apps": "smol"}}))
    await cluster.create(WORKSPACES, given)
    token = {"metadata": {"name": "smol-abcde", "namespace": "default"}, "data": {"auth_token": "dG9rZW4="}}
    await cluster.create(SECRETS, token)
    await reconcile(cluster, replicas, Key("default", "smol"), SETTINGS)
    service = await cluster.get(RAY_SERVICES, "smol", "default")
    assert service is not None
    await cluster.replace_status(RAY_SERVICES, {**service, "status": serving or ready_ray_service_status()})
    for counts in looks:
        replicas.counts = counts
        again_s = await reconcile(cluster, replicas, Key("default", "smol"), SETTINGS)
        assert again_s is not None and again_s <= scaling.look_again_s(scaled(), counts)
    found = await cluster.get(WORKSPACES, "smol", "default")
    assert found is not None
    return cluster, found["status"]


def reason(status: Any) -> str:
    return next(str(one["reason"]) for one in status["conditions"] if one["type"] == c.INFERENCE_READY)


async def test_the_status_has_the_numbers_and_keeps_them_where_ray_does_not_answer() -> None:
    _, status = await told(FakeReplicas(), manifest(), ReplicaStatus(desired=2, ready=1), None)
    assert status["replicas"] == {"desired": 2, "ready": 1}


async def test_a_number_that_stays_is_written_once() -> None:
    counts = ReplicaStatus(desired=2, ready=2)
    cluster, _ = await told(FakeReplicas(), manifest(), counts)
    first = len(cluster.writes)
    for _ in range(3):
        await reconcile(cluster, FakeReplicas(counts=counts), Key("default", "smol"), SETTINGS)
    assert len(cluster.writes) == first


async def test_nobody_wakes_a_replica_up_to_ask_for_its_adapters() -> None:
    replicas = FakeReplicas()
    with_adapter = merged(manifest(), {"inference": {"adapters": [adapter()]}})
    await told(replicas, with_adapter, ReplicaStatus(desired=1, ready=1))
    asked = len(replicas.keys)
    assert asked
    replicas = FakeReplicas()
    await told(replicas, with_adapter, ReplicaStatus(desired=0, ready=0))
    assert len(replicas.keys) == 1, "only before it was first counted"


async def test_replicas_that_come_and_go_are_no_reason_to_write_the_ray_service() -> None:
    cluster, _ = await told(FakeReplicas(), manifest(), ReplicaStatus(desired=1, ready=1))
    before = await cluster.get(RAY_SERVICES, "smol", "default")
    await reconcile(cluster, FakeReplicas(counts=ReplicaStatus(desired=3, ready=2)), Key("default", "smol"), SETTINGS)
    assert await cluster.get(RAY_SERVICES, "smol", "default") == before


async def test_an_edit_in_place_keeps_the_replicas_that_run() -> None:
    cluster, _ = await told(FakeReplicas(), manifest(), ReplicaStatus(desired=3, ready=3))
    live = await cluster.get(WORKSPACES, "smol", "default")
    assert live is not None
    await cluster.replace(WORKSPACES, merged(live, {"inference": {"adapters": [adapter()]}}))
    await reconcile(cluster, FakeReplicas(counts=ReplicaStatus(desired=3, ready=3)), Key("default", "smol"), SETTINGS)
    service = await cluster.get(RAY_SERVICES, "smol", "default")
    assert service is not None
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    # Serve goes back to this number whenever the deployment's configuration changes.
    assert application["deployments"][0]["autoscaling_config"]["initial_replicas"] == 3


async def test_why_says_how_many_replicas_are_missing() -> None:
    _, status = await told(FakeReplicas(), manifest(), ReplicaStatus(desired=3, ready=1))
    assert (status["state"], status["reason"]) == ("Ready", "1 of 3 replicas answer")


async def test_scaled_to_zero_it_is_ready_and_says_why_it_has_no_replica() -> None:
    _, status = await told(
        FakeReplicas(), manifest(), ReplicaStatus(desired=1, ready=1), ReplicaStatus(desired=0, ready=0)
    )
    assert (status["state"], reason(status), status["reason"]) == ("Ready", "ScaledToZero", "scaled to zero")


async def test_the_plan_says_what_replicas_cost_at_most() -> None:
    _, status = await told(FakeReplicas(), manifest(0, 3), ReplicaStatus(desired=1, ready=1))
    assert status["plan"]["why"][-1].startswith("0 to 3 replicas, which share the machine: one more from ")


async def test_why_says_what_keeps_kuberay_from_a_further_replica() -> None:
    serving = ready_ray_service_status()
    words = 'pods "smol-gpu-worker" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateWorkerPod", "message": words}
    serving["activeServiceStatus"]["rayClusterStatus"]["conditions"] = [refused]
    _, status = await told(FakeReplicas(), manifest(), ReplicaStatus(desired=2, ready=1), serving=serving)
    assert status["state"] == "Ready"
    assert status["reason"].startswith("1 of 2 replicas answer: ")
    assert "quota" in status["reason"]
