"""Moving Workspaces to another worker image."""

import asyncio
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from kaito_ray.cli import connection, upgrade
from kaito_ray.cli.main import app
from kaito_ray.cli.upgrade import Move, NothingNamed, UpgradeStuck, carried_out, planned
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import NODES, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import merged, node, ready_ray_service_status, workspace
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


@pytest.mark.parametrize(("dry", "writes"), [((), True), (("--dry-run",), False)])
def test_a_dry_run_says_the_same_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, dry: tuple[str, ...], writes: bool
) -> None:
    cluster = asyncio.run(served())

    async def moved(_: object, move: Move, **__: object) -> None:
        carried.append(move.name)

    carried: list[str] = []
    target = SimpleNamespace(namespace="default")
    monkeypatch.setattr(connection, "find", lambda **_: target)
    monkeypatch.setattr(connection, "ask", lambda _, run: asyncio.run(run(cluster)))
    monkeypatch.setattr(upgrade, "carried_out", moved)
    done = CliRunner().invoke(app, ["upgrade", "smol", "--image", NEW, *dry])
    assert done.exit_code == 0, done.output
    assert f"smol: {SETTINGS.worker_image} -> {NEW}" in " ".join(done.output.split())
    assert carried == (["smol"] if writes else [])


def test_nothing_to_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = asyncio.run(served())
    monkeypatch.setattr(connection, "find", lambda **_: SimpleNamespace(namespace="default"))
    monkeypatch.setattr(connection, "ask", lambda _, run: asyncio.run(run(cluster)))
    image_now = ["--image", SETTINGS.worker_image]
    assert "Nothing to do" in CliRunner().invoke(app, ["upgrade", "--all", *image_now]).output
    assert "Nothing to do" not in CliRunner().invoke(app, ["upgrade", "--all", "--dry-run", "--image", NEW]).output


@pytest.mark.parametrize(("machines", "gpus"), [(None, 4), (6, 12), (0, 4)])
async def test_it_needs_as_many_gpus_more_as_serve_now(machines: int | None, gpus: int) -> None:
    cluster = await served()
    live = await cluster.get(WORKSPACES, "smol", "default")
    assert live is not None
    plan = {**live["status"]["plan"], "nodes": 2, "gpusPerNode": 2}
    await cluster.replace_status(WORKSPACES, merged(live, {"status": {"plan": plan, "targetNodeCount": machines}}))
    (move,) = await planned(cluster, "default", None, NEW)
    assert move.gpus == gpus
