"""The NodePool, and the Service."""

import pytest

from kaito_ray.api.workspace import Workspace
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.service import service
from kaito_ray.testing.builders import Manifest, workspace
from kaito_ray.testing.plans import gpu_plan, inputs


def requirements(pool: Manifest) -> dict[str, list[str]]:
    return {r["key"]: r["values"] for r in pool["spec"]["template"]["spec"]["requirements"]}


def test_nodes_never_expire_by_themselves() -> None:
    assert nodepool(inputs())["spec"]["template"]["spec"]["expireAfter"] == "Never"


def test_an_upgrade_may_double_the_machines_and_no_more() -> None:
    assert nodepool(inputs(plan=gpu_plan(nodes=2)))["spec"]["limits"] == {"nodes": "4"}


def test_fallbacks_are_one_pool_with_several_types() -> None:
    pool = nodepool(inputs(instance_types=("a", "b")))
    assert requirements(pool)["node.kubernetes.io/instance-type"] == ["a", "b"]


def test_on_demand_unless_spot_is_asked_for() -> None:
    assert requirements(nodepool(inputs()))["karpenter.sh/capacity-type"] == ["on-demand"]
    spot = workspace(resource={"capacityTypes": ["spot"]})
    assert requirements(nodepool(inputs(spot)))["karpenter.sh/capacity-type"] == ["spot"]


def test_a_spot_machine_that_is_taken_back_is_drained_and_no_other_is_forced() -> None:
    spot = workspace(resource={"capacityTypes": ["spot", "on-demand"]})
    assert nodepool(inputs(spot))["spec"]["template"]["spec"]["terminationGracePeriod"] == "120s"
    assert "terminationGracePeriod" not in nodepool(inputs())["spec"]["template"]["spec"]


def test_azure_is_asked_without_a_zone_unless_one_is_named() -> None:
    assert "karpenter.azure.com/placement-scope" in requirements(nodepool(inputs(regional=True)))
    zoned = workspace(resource={"zones": ["eu-1"]})
    assert "karpenter.azure.com/placement-scope" not in requirements(nodepool(inputs(zoned, regional=True)))


def test_nodes_get_the_persons_labels_but_not_the_reserved_ones() -> None:
    mine = workspace(resource={"labelSelector": {"matchLabels": {"kaito.sh/workspace": "other"}}})
    labels = nodepool(inputs(mine))["spec"]["template"]["metadata"]["labels"]
    assert labels == {"apps": "smol", "kaito.sh/workspace": "smol", "kaito.sh/workspacenamespace": "default"}


def test_only_gpu_nodes_are_tainted() -> None:
    assert "taints" not in nodepool(inputs())["spec"]["template"]["spec"]
    assert nodepool(inputs(plan=gpu_plan()))["spec"]["template"]["spec"]["taints"][0]["key"] == "sku"


def test_the_node_class_can_be_chosen_by_kaitos_annotation() -> None:
    chosen = workspace(metadata={"annotations": {"kaito.sh/node-class-name": "mine"}})
    assert nodepool(inputs(chosen))["spec"]["template"]["spec"]["nodeClassRef"]["name"] == "mine"


def test_without_a_node_class_there_is_no_pool() -> None:
    with pytest.raises(ValueError, match="NodeClass"):
        nodepool(inputs(node_class=None))


def test_the_service_follows_the_workspace_and_not_one_ray_cluster() -> None:
    spec = service(Workspace.from_wire(workspace()))["spec"]
    assert spec["selector"] == {"kaito.sh/workspace": "smol", "ray.io/serve": "true"}
    assert [(p["port"], p["targetPort"]) for p in spec["ports"]] == [(80, "serve")]


@pytest.mark.parametrize(("value", "type_"), [("True", "LoadBalancer"), ("False", "ClusterIP")])
def test_a_load_balancer_is_asked_for_by_kaitos_annotation(value: str, type_: str) -> None:
    asked = workspace(metadata={"annotations": {"kaito.sh/enablelb": value}})
    assert service(Workspace.from_wire(asked))["spec"]["type"] == type_
