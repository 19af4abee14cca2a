"""`resource.partition`: a part of a GPU node of one's own, from the manifest to the pod."""

from __future__ import annotations

from typing import Any

import pytest

from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import NODES, RAY_SERVICES, WORKSPACES, Manifest
from kaito_ray.testing.builders import merged, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas
from tests.unit.catalog.test_parts import DIVIDED, WHOLE

PROVISIONER = "byo"
"""Whose rights the operator has here, see conftest.py."""
SETTINGS = Settings(provider="azure", provisioner="byo")
MIG, ACCELERATOR = {"mode": "mig", "profile": "1g.10gb"}, {"mode": "accelerator", "count": 1}


async def looked(
    partition: Manifest, *nodes: Manifest, model: str = "smollm2-135m-instruct", **more: Any
) -> tuple[Manifest, FakeCluster]:
    cluster = FakeCluster()
    for index, one in enumerate(nodes):
        meta = {"name": f"node-{index}", "labels": {"apps": "smol"}}
        await cluster.create(NODES, merged(one, {"metadata": meta}))
    given = workspace(resource={"partition": partition}, inference={"preset": {"name": model}, **more})
    await cluster.create(WORKSPACES, given)
    await reconcile(cluster, FakeReplicas(), Key("default", "smol"), SETTINGS)
    found = await cluster.get(WORKSPACES, "smol", "default")
    assert found is not None
    return found, cluster


async def pod(cluster: FakeCluster) -> Manifest:
    (service,) = await cluster.list(RAY_SERVICES)
    spec: Manifest = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    return spec


def condition(seen: Manifest, type_: str) -> Manifest:
    return next(c for c in seen["status"]["conditions"] if c["type"] == type_)


@pytest.mark.parametrize(
    ("partition", "node", "resource"),
    [
        pytest.param(MIG, DIVIDED, "nvidia.com/mig-1g.10gb", id="a slice"),
        pytest.param(ACCELERATOR, WHOLE, "nvidia.com/gpu", id="one of two GPUs"),
    ],
)
async def test_the_pod_asks_for_the_part_and_no_more(partition: Manifest, node: Manifest, resource: str) -> None:
    seen, cluster = await looked(partition, node)
    (ray,) = (await pod(cluster))["containers"]
    gpus = {key: value for key, value in ray["resources"]["limits"].items() if key.startswith("nvidia.com/")}
    assert gpus == {resource: "1"}
    assert int(ray["resources"]["limits"]["cpu"]) <= 16
    assert condition(seen, "ResourceReady")["status"] == "True"
    assert seen["status"]["plan"]["gpusPerNode"] == 1


async def test_a_model_does_not_spread_over_slices() -> None:
    seen, _ = await looked(MIG, DIVIDED, DIVIDED, DIVIDED, model="phi-4")
    assert condition(seen, "InferenceReady")["reason"] == "DoesNotFit"


async def test_nodes_without_the_part_are_passed_over() -> None:
    _, cluster = await looked(MIG, WHOLE, DIVIDED)
    assert len(await cluster.list(RAY_SERVICES)) == 1


async def test_where_no_node_has_the_part_it_says_what_is_missing() -> None:
    seen, _ = await looked({"mode": "mig", "profile": "3g.40gb"}, WHOLE, DIVIDED)
    assert condition(seen, "InferenceReady")["reason"] == "NoSuchPart"
    assert "nvidia.com/mig-3g.40gb" in seen["status"]["reason"]


async def test_a_pod_of_ones_own_says_it_itself() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}
    cluster = FakeCluster()
    given = workspace(resource={"partition": ACCELERATOR}, inference={"preset": None, "template": template})
    await cluster.create(WORKSPACES, given)
    await reconcile(cluster, FakeReplicas(), Key("default", "smol"), SETTINGS)
    seen = await cluster.get(WORKSPACES, "smol", "default")
    assert seen is not None
    assert "resources of the template's containers" in condition(seen, "InferenceReady")["message"]
