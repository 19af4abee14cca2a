import pytest

from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import CRDS
from kaito_ray.local import crds
from kaito_ray.local.install import NotInstalled, install
from kaito_ray.testing.fake_cluster import FakeCluster

CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.com"},
    "spec": {"group": "example.com", "versions": [1]},
}


class Establishes(FakeCluster):
    """As an API server, it says of each CRD that it is established."""

    async def create(self, resource, manifest):
        return await self.established(await super().create(resource, manifest))

    async def replace(self, resource, manifest):
        return await self.established(await super().replace(resource, manifest))

    async def established(self, stored):
        return await self.replace_status(
            CRDS, {**stored, "status": {"conditions": [{"type": "Established", "status": "True"}]}}
        )


async def test_the_kinds_of_kuberay_and_karpenter_are_installed():
    cluster = Establishes()

    await install(cluster, crds.manifests())

    assert {c["metadata"]["name"] for c in await cluster.list(CRDS)} >= {
        "rayservices.ray.io",
        "rayjobs.ray.io",
        "rayclusters.ray.io",
        "nodepools.karpenter.sh",
        "nodeclaims.karpenter.sh",
    }


async def test_a_server_that_is_not_up_yet_is_waited_for(monkeypatch):
    cluster = Establishes()
    cluster.fail_next(ApiUnavailable("not yet"))

    await install(cluster, [CRD])

    assert await cluster.get(CRDS, "things.example.com")


async def test_an_older_crd_is_brought_up_to_date_and_an_equal_one_left_alone():
    cluster = Establishes()
    await install(cluster, [CRD])
    newer = {**CRD, "spec": {**CRD["spec"], "versions": [1, 2]}}

    await install(cluster, [newer])
    writes = len(cluster.writes)
    await install(cluster, [newer])

    assert (await cluster.get(CRDS, "things.example.com"))["spec"]["versions"] == [1, 2]
    assert len(cluster.writes) == writes


async def test_a_server_that_never_comes_up_is_reported():
    with pytest.raises(NotInstalled, match=r"logs/apiserver\.log"):
        await install(FakeCluster(), [CRD], timeout_s=0.01)
