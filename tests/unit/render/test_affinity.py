from typing import Any

import pytest

from kaito_ray.render.rayservice import rayservice
from kaito_ray.testing.builders import adapter, workspace
from kaito_ray.testing.plans import gpu_plan, inputs


def told(**changes: Any) -> str | None:
    """Return how HAProxy is told to choose."""
    head = rayservice(inputs(**changes))["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    env = {variable["name"]: variable.get("value") for variable in head["containers"][0]["env"]}
    return env.get("RAY_SERVE_HAPROXY_BALANCE_ALGORITHM")


def scaled(**inference: Any) -> dict[str, Any]:
    return workspace(inference={"autoscaling": {"maxReplicas": 4}, **inference})


def test_one_replica_needs_no_choice() -> None:
    assert told(plan=gpu_plan()) is None


@pytest.mark.parametrize(
    "changes",
    [{"plan": gpu_plan(tensor_parallel=1, data_parallel=2)}, {"manifest": scaled()}],
    ids=["several on a machine", "as many as the load wants"],
)
def test_of_several_replicas_the_one_with_the_adapter_is_preferred(changes: dict[str, Any]) -> None:
    assert (told(**changes) or "").startswith("hash req.body,json_query($.model)")


def test_the_first_adapter_and_other_bounds_change_no_pod() -> None:
    other_bounds = workspace(inference={"autoscaling": {"maxReplicas": 1}})
    assert told(manifest=scaled(adapters=[adapter()])) == told(manifest=scaled()) == told(manifest=other_bounds)


def test_a_model_without_adapters_is_left_to_the_least_busy() -> None:
    assert told(plan=gpu_plan("deepseek-v3.2", tensor_parallel=1, data_parallel=2)) is None
