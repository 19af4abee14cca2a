"""With nodes of one's own the operator has no rights on anything of Karpenter's, and needs none."""

from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import NODES, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import node, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

PROVISIONER = "byo"
"""Whose rights the operator has here, see conftest.py."""
SETTINGS = Settings(provider="azure", provisioner="byo")


async def test_a_whole_life_stays_within_the_rights() -> None:
    cluster, key = FakeCluster(), Key("default", "smol")
    mine = node(gpus=1, metadata={"labels": {"apps": "smol"}})
    await cluster.create(NODES, mine)
    await cluster.create(WORKSPACES, workspace())
    await reconcile(cluster, FakeReplicas(), key, SETTINGS)
    assert len(await cluster.list(RAY_SERVICES)) == 1
    await cluster.delete(WORKSPACES, "smol", "default")
    for _ in range(2):
        await reconcile(cluster, FakeReplicas(), key, SETTINGS)
    assert await cluster.get(WORKSPACES, "smol", "default") is None
