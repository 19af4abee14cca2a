from kaito_ray.kube.cluster import PERSISTENT_VOLUME_CLAIMS
from kaito_ray.local import claims
from kaito_ray.testing.fake_cluster import FakeCluster

CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "phi", "namespace": "team"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Gi"}}},
}


async def test_a_claim_is_bound_to_a_private_directory(follow, tmp_path):
    cluster = FakeCluster()
    await cluster.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)

    await claims.bind(await follow(cluster, PERSISTENT_VOLUME_CLAIMS), tmp_path)

    status = (await cluster.get(PERSISTENT_VOLUME_CLAIMS, "phi", "team"))["status"]
    assert status == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "32Gi"}}
    assert (tmp_path / "team_phi").stat().st_mode & 0o077 == 0


async def test_what_is_kept_on_a_claim_goes_with_the_claim_and_not_before(follow, tmp_path):
    cluster = FakeCluster()
    await cluster.create(PERSISTENT_VOLUME_CLAIMS, CLAIM)
    await claims.bind(await follow(cluster, PERSISTENT_VOLUME_CLAIMS), tmp_path)
    (tmp_path / "team_phi" / "checkpoint").touch()

    await claims.bind(await follow(cluster, PERSISTENT_VOLUME_CLAIMS), tmp_path)
    assert (tmp_path / "team_phi" / "checkpoint").exists()

    await cluster.delete(PERSISTENT_VOLUME_CLAIMS, "phi", "team")
    await claims.bind(await follow(cluster, PERSISTENT_VOLUME_CLAIMS), tmp_path)
    assert list(tmp_path.iterdir()) == []
