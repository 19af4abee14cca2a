"""NodeClaims and Nodes -> conditions."""

from typing import Any

import pytest

from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.nodes import claim_condition, nodes_condition, used_nodes
from kaito_ray.controller.observe import Observed
from kaito_ray.testing.builders import merged, node, node_claim, workspace
from kaito_ray.testing.plans import cpu_plan, gpu_plan


def seen(*nodes: dict[str, Any], claims: tuple[dict[str, Any], ...] = ()) -> Observed:
    return Observed(Workspace.from_wire(workspace()), workspace(), nodes=nodes, node_claims=claims)


def test_claims_are_ready_when_enough_are() -> None:
    assert claim_condition([node_claim("p")], 1).status == "True"
    assert claim_condition([node_claim("p")], 2).message == "waiting for Karpenter: 1 of 2 machines"


def test_a_claims_own_reason_is_kept_with_its_stage() -> None:
    stuck = node_claim("p", ready=False)
    stuck["status"]["conditions"][0] |= {"reason": "SKUNotAvailable", "message": "none left in eu-1"}
    found = claim_condition([stuck], 1)
    assert found.reason == "SKUNotAvailable"
    assert found.message == "machine 1 of 1 is not launched yet: none left in eu-1"


def test_nodes_are_ready_when_enough_are() -> None:
    assert nodes_condition(seen(node("a")), cpu_plan(), ["a"]).status == "True"
    assert nodes_condition(seen(node("a")), cpu_plan(), []).message == "0 of 1 nodes are ready"


def test_a_node_under_pressure_is_named() -> None:
    pressed = node("a")
    pressed["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    assert nodes_condition(seen(pressed), cpu_plan(), ["a"]).message.endswith("; warning: a has DiskPressure")


@pytest.mark.parametrize(("gpus", "reason"), [(0, "NodePluginsNotReady"), (2, "NodesReady")])
def test_a_gpu_node_without_its_device_plugin_is_not_ready(gpus: int, reason: str) -> None:
    assert nodes_condition(seen(node("a", gpus=gpus)), gpu_plan(), ["a"]).reason == reason


def test_nodes_in_use_are_those_of_the_claims_or_those_selected() -> None:
    around = seen(
        node("a"), node("b"), claims=(node_claim("p", "b"), merged(node_claim("p"), {"status": {"nodeName": None}}))
    )
    assert used_nodes(around, provisioned=True) == ("b",)
    assert used_nodes(around, provisioned=False) == ("a", "b")
