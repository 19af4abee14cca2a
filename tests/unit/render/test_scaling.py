"""What `inference.autoscaling` makes of the manifests."""

from typing import Any

import pytest
import yaml

from kaito_ray.render.inputs import Redis, ServingInputs
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.scaling import autoscaling_config, most_pods, target
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.plans import gpu_plan, inputs


def scaled(low: int = 1, high: int = 3, plan: dict[str, Any] | None = None, **changes: Any) -> ServingInputs:
    manifest = workspace(inference={"autoscaling": {"minReplicas": low, "maxReplicas": high}})
    return inputs(manifest, gpu_plan(**(plan or {})), **changes)


def serve(made: ServingInputs) -> dict[str, Any]:
    found = autoscaling_config(made)
    assert found is not None
    return found


def cluster(made: ServingInputs) -> dict[str, Any]:
    found: dict[str, Any] = rayservice(made)["spec"]["rayClusterConfig"]
    return found


def test_without_autoscaling_serve_scales_nothing() -> None:
    assert autoscaling_config(inputs()) is None
    assert "enableInTreeAutoscaling" not in cluster(inputs())


def test_serve_is_given_the_bounds_in_the_part_that_changes_in_place() -> None:
    (application,) = yaml.safe_load(rayservice(scaled(2, 5))["spec"]["serveConfigV2"])["applications"]
    given = application["deployments"][0]["autoscaling_config"]
    assert (given["min_replicas"], given["max_replicas"]) == (2, 5)


def test_a_replica_is_the_plan_once_and_serve_counts_its_copies() -> None:
    given = serve(scaled(1, 3, {"tensor_parallel": 1, "data_parallel": 2}))
    assert (given["min_replicas"], given["max_replicas"]) == (2, 6)


def test_the_first_replica_starts_also_where_there_may_be_none() -> None:
    assert serve(scaled(0, 3))["initial_replicas"] == 1


def test_a_second_cluster_starts_with_as_many_replicas_as_serve_now() -> None:
    assert serve(scaled(1, 3, copies_now=2))["initial_replicas"] == 2
    assert serve(scaled(1, 3, copies_now=9))["initial_replicas"] == 3


@pytest.mark.parametrize(("delay", "look_back"), [(0, 5), (12, 12), (300, 30)])
def test_load_is_averaged_over_no_longer_than_the_delay_allows(delay: int, look_back: int) -> None:
    manifest = workspace(inference={"autoscaling": {"maxReplicas": 2, "upscaleDelaySeconds": delay}})
    given = serve(inputs(manifest))
    assert (given["upscale_delay_s"], given["look_back_period_s"]) == (delay, look_back)


def test_the_planners_target_is_what_one_copy_caches_within_bounds() -> None:
    assert target(gpu_plan(concurrent_sequences=16, data_parallel=2)) == 8
    assert target(gpu_plan(concurrent_sequences=1)) == 2
    assert target(gpu_plan(concurrent_sequences=500)) == 32


def test_a_persons_target_wins() -> None:
    manifest = workspace(inference={"autoscaling": {"maxReplicas": 2, "targetOngoingRequests": 50}})
    assert serve(inputs(manifest))["target_ongoing_requests"] == 50


def test_on_gpus_the_head_takes_no_replica_and_no_machine_of_the_workspace() -> None:
    head = cluster(scaled())["headGroupSpec"]
    spec = head["template"]["spec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in spec["containers"][0]["resources"]["limits"]
    assert "tolerations" not in spec
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kaito.sh/workspace", "operator": "DoesNotExist"}]


def test_a_workspace_scaled_to_zero_costs_one_cpu_and_two_gibibytes() -> None:
    made = cluster(scaled(0))
    parts = [
        made["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["requests"],
        made["autoscalerOptions"]["resources"]["requests"],
    ]
    assert sum(int(part["cpu"].removesuffix("m")) for part in parts) <= 1000
    assert sum(int(part["memory"].removesuffix("Mi")) for part in parts) <= 2048


def test_the_autoscalers_token_is_mounted_in_the_head_alone() -> None:
    made = cluster(scaled())
    assert made["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is True
    assert made["workerGroupSpecs"][0]["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_worker_that_is_to_end_lets_its_replica_finish_first() -> None:
    spec = cluster(scaled())["workerGroupSpecs"][0]["template"]["spec"]
    (*_, command) = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    patience = int(command.partition("--deadline-remaining-seconds=")[2].partition(";")[0])
    assert "ray drain-node" in command
    assert patience < spec["terminationGracePeriodSeconds"]


def test_version_two_of_the_autoscaler_is_said_and_its_pods_never_restart_in_place() -> None:
    made = cluster(scaled())
    assert made["enableInTreeAutoscaling"] is True
    assert made["autoscalerOptions"]["version"] == "v2"
    assert made["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert made["workerGroupSpecs"][0]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_bounds_are_not_in_the_ray_cluster_where_they_could_not_be_edited() -> None:
    a, b = cluster(scaled(1, 3)), cluster(scaled(1, 9))
    assert a == b
    assert a["workerGroupSpecs"][0]["minReplicas"] == 0


def test_machines_of_one_replica_come_and_go_together() -> None:
    (group,) = cluster(scaled(2, 3, {"nodes": 2, "pipeline_parallel": 2}))["workerGroupSpecs"]
    assert (group["replicas"], group["numOfHosts"]) == (2, 2)


def test_the_nodepool_may_hold_what_all_replicas_need_and_as_much_for_an_upgrade() -> None:
    assert nodepool(scaled(1, 3, {"nodes": 2}))["spec"]["limits"] == {"nodes": "12"}


def test_every_pod_there_may_be_is_protected() -> None:
    assert most_pods(scaled(0, 3, {"nodes": 2})) == 7
    assert most_pods(inputs()) == 1


def test_on_a_cpu_replicas_share_one_pod() -> None:
    made = rayservice(inputs(workspace(inference={"autoscaling": {"maxReplicas": 3}})))["spec"]
    alone = rayservice(inputs(workspace(inference={"autoscaling": {}})))["spec"]
    assert made["rayClusterConfig"]["workerGroupSpecs"] == []
    memory = [
        int(
            one["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"]["requests"][
                "memory"
            ][:-2]
        )
        for one in (made, alone)
    ]
    assert memory[0] == pytest.approx(3 * memory[1], rel=0.01)


def test_workers_outlive_their_head_where_there_is_a_redis() -> None:
    made = cluster(scaled(redis=Redis("redis:6379", secret="redis", key="pass")))
    assert made["gcsFaultToleranceOptions"] == {
        "redisAddress": "redis:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "pass"}}},
    }
    assert cluster(scaled(redis=Redis("redis:6379")))["gcsFaultToleranceOptions"] == {"redisAddress": "redis:6379"}
    assert "gcsFaultToleranceOptions" not in cluster(scaled())
