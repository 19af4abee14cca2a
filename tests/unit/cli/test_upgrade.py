"""Moving Workspaces to another worker image."""

import pytest

from kaito_ray.cli.upgrade import NothingNamed, UpgradeStuck, carried_out, planned
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import NODES, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

SETTINGS = Settings(provider="local", worker_image="registry.example.com/worker:1")
NEW = "registry.example.com/worker:2"


async def served() -> FakeCluster:
    cluster = FakeCluster()
    await cluster.create(NODES, node())
    await cluster.create(WORKSPACES, workspace())
    await looked_at(cluster)
    await active(cluster, "smol-old")
    return cluster


async def looked_at(cluster: FakeCluster) -> None:
    await reconcile(cluster, FakeReplicas(), Key("default", "smol"), SETTINGS)


async def active(cluster: FakeCluster, name: str) -> None:
    live = await cluster.get(RAY_SERVICES, "smol", "default")
    assert live is not None
    await cluster.replace_status(RAY_SERVICES, {**live, "status": ready_ray_service_status(name)})


async def image(cluster: FakeCluster) -> str:
    live = await cluster.get(RAY_SERVICES, "smol", "default")
    assert live is not None
    return str(live["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"])


async def test_it_ends_when_the_traffic_has_moved_to_the_new_image() -> None:
    cluster = await served()
    (move,) = await planned(cluster, "default", None, NEW)
    waits: list[float] = []

    async def time_passes(seconds: float) -> None:
        waits.append(seconds)
        await looked_at(cluster)
        if len(waits) == 3:
            await active(cluster, "smol-new")

    await carried_out(cluster, move, timeout_s=60, sleep=time_passes)
    assert (move.before, await image(cluster)) == (SETTINGS.worker_image, NEW)
    assert len(waits) == 3
    assert await planned(cluster, "default", "smol", NEW) == []


async def test_one_that_does_not_move_in_time_is_said_to_be_stuck() -> None:
    cluster = await served()
    (move,) = await planned(cluster, "default", "smol", NEW)

    async def time_passes(_: float) -> None:
        return

    with pytest.raises(UpgradeStuck, match="smol-old still serves"):
        await carried_out(cluster, move, timeout_s=4, sleep=time_passes)


async def test_a_workspace_that_is_not_there_is_named() -> None:
    with pytest.raises(NothingNamed, match="'other'"):
        await planned(await served(), "default", "other", NEW)


async def test_a_retry_starts_new_pods_and_only_once() -> None:
    cluster = await served()
    before = await cluster.get(RAY_SERVICES, "smol", "default")
    live = await cluster.get(WORKSPACES, "smol", "default")
    assert live is not None and before is not None
    live["metadata"]["annotations"] = {"ray.kaito.sh/retry": "1"}
    await cluster.replace(WORKSPACES, live)
    await looked_at(cluster)
    after = await cluster.get(RAY_SERVICES, "smol", "default")
    assert after is not None
    assert after["spec"]["rayClusterConfig"] != before["spec"]["rayClusterConfig"]
    assert await image(cluster) == SETTINGS.worker_image
    writes = len(cluster.writes)
    await looked_at(cluster)
    assert not [w for w in cluster.writes[writes:] if w.kind == "RayService"]
