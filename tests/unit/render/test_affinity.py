from typing import Any

import pytest

from kaito_ray.render.rayservice import rayservice
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.plans import gpu_plan, inputs

NAMES = {"RAY_SERVE_HAPROXY_BALANCE_ALGORITHM", "RAY_SERVE_HAPROXY_TUNE_BUFSIZE"}


def told(**changes: Any) -> set[str]:
    """Return which of the settings the pod has."""
    head = rayservice(inputs(**changes))["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    return {variable["name"] for variable in head["containers"][0]["env"]} & NAMES


def test_one_replica_needs_no_choice() -> None:
    assert told(plan=gpu_plan()) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": gpu_plan(tensor_parallel=1, data_parallel=2)},
        {"manifest": workspace(inference={"autoscaling": {"minReplicas": 1, "maxReplicas": 4}})},
    ],
    ids=["several in a machine", "as many as the load wants"],
)
def test_of_several_replicas_the_one_with_the_adapter_is_preferred(changes: dict[str, Any]) -> None:
    assert told(**changes) == NAMES
