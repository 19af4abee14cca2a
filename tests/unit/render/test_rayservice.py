"""The RayService: facts of KubeRay that bite when they are forgotten."""

from typing import Any

import yaml

from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.serve_config import user_config
from kaito_ray.testing.builders import adapter, workspace
from kaito_ray.testing.plans import gpu_plan, inputs


def cluster(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = rayservice(inputs(**changes))["spec"]["rayClusterConfig"]
    return found


def head(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = cluster(**changes)["headGroupSpec"]["template"]["spec"]
    return found


def test_one_machine_is_one_pod() -> None:
    assert cluster()["workerGroupSpecs"] == []


def test_the_other_machines_are_one_group_that_lives_and_dies_together() -> None:
    (group,) = cluster(plan=gpu_plan(nodes=3, pipeline_parallel=3))["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"], group["numOfHosts"]) == (1, 1, 1, 2)


def test_every_port_is_declared_by_kuberays_name() -> None:
    ports = {port["name"]: port["containerPort"] for port in head()["containers"][0]["ports"]}
    assert ports == {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "metrics": 8080, "serve": 8000}


def test_ray_wants_its_token() -> None:
    assert cluster()["authOptions"] == {"mode": "token"}


def test_start_parameters_are_strings() -> None:
    assert all(isinstance(value, str) for value in cluster()["headGroupSpec"]["rayStartParams"].values())


def test_keys_and_credentials_are_mounted_from_the_first_day() -> None:
    spec = head()
    secrets = {v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v}
    assert secrets == {"smol-keys", "smol-registry"}


def test_a_pod_takes_all_gpus_of_its_machine_by_limits() -> None:
    resources = head(plan=gpu_plan())["containers"][0]["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "2"
    assert int(resources["requests"]["cpu"]) < 48


def test_new_nodes_are_selected_by_the_workspace_and_own_ones_by_the_persons_labels() -> None:
    assert head()["nodeSelector"] == {
        "apps": "smol",
        "kaito.sh/workspace": "smol",
        "kaito.sh/workspacenamespace": "default",
    }
    assert head(provisioner="byo")["nodeSelector"] == {"apps": "smol"}


def test_the_hubs_token_comes_from_the_secret_that_is_named() -> None:
    named = workspace(inference={"preset": {"presetOptions": {"modelAccessSecret": "hub"}}})
    token = head(manifest=named)["containers"][0]["env"][-1]
    assert token == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "HF_TOKEN"}}}


def test_adapters_change_nothing_but_the_user_config() -> None:
    def parts(*adapters: dict[str, Any]) -> tuple[Any, Any, Any]:
        made = rayservice(inputs(workspace(inference={"adapters": list(adapters)})))["spec"]
        (application,) = yaml.safe_load(made["serveConfigV2"])["applications"]
        return made["rayClusterConfig"], application["args"], application["deployments"]

    without, with_one = parts(), parts(adapter("a", strength="0.5"))
    assert without[:2] == with_one[:2]
    assert with_one[2][0]["user_config"]["adapters"] == [
        {"name": "a", "image": "registry.example.com/team/a:1", "strength": 0.5}
    ]


def test_copies_within_a_machine_are_replicas() -> None:
    made = rayservice(inputs(plan=gpu_plan(tensor_parallel=1, data_parallel=2)))["spec"]["serveConfigV2"]
    (application,) = yaml.safe_load(made)["applications"]
    assert application["args"]["replicas"] == 2


def test_limits_change_in_place() -> None:
    limited = inputs(workspace(inference={"limits": {"requestsPerMinute": 5}})).workspace.inference
    assert limited is not None
    assert user_config(limited).to_wire()["limits"] == {"requestsPerMinute": 5}
