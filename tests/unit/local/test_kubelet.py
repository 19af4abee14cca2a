"""Pods and the processes behind them, on a fake API server and fake processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import CONFIG_MAPS, PODS, SECRETS, Manifest
from kaito_ray.local.home import Home, write_json
from kaito_ray.local.kubelet import FINALIZER, FIRST_PORT, Kubelet
from kaito_ray.local.objects import Objects
from kaito_ray.testing.fake_cluster import FakeCluster
from tests.unit.local.fake_ray import FakeHeads

TOKEN = {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "phi-abcde", "key": "auth_token"}}}


def head_pod() -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "phi-abcde-head-12345",
            "namespace": "default",
            "labels": {"ray.io/cluster": "phi-abcde"},
            "annotations": {FIRST_PORT: "20000"},
            "finalizers": [FINALIZER],
            "ownerReferences": [
                {"uid": "uid-of-cluster", "controller": True, "kind": "RayCluster", "name": "phi-abcde"}
            ],
        },
        "spec": {"nodeName": "this", "containers": [{"name": "ray", "command": ["ray", "start"], "env": [TOKEN]}]},
    }


@dataclass
class World:
    cluster: FakeCluster
    objects: Objects
    home: Home
    heads: FakeHeads = field(default_factory=FakeHeads)
    healthy: bool = True

    def __post_init__(self) -> None:
        async def probe(_: object) -> bool:
            return self.healthy

        self.kubelet = Kubelet(self.home, self.objects, "this", probe, self.heads)

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            await self.kubelet.reconcile()
            for _ in range(5):
                await asyncio.sleep(0)

    async def pod(self) -> Manifest:
        return (await self.cluster.list(PODS))[0]

    async def container(self) -> Manifest:
        return (await self.pod())["status"]["containerStatuses"][0]

    def dies(self) -> None:
        self.heads.alive.clear()


@pytest_asyncio.fixture
async def world(follow, tmp_path) -> AsyncIterator[World]:
    cluster = FakeCluster()
    await cluster.create(PODS, head_pod())
    await cluster.create(
        SECRETS,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "phi-abcde", "namespace": "default"},
            "data": {"auth_token": "c2VjcmV0"},
        },
    )
    return World(cluster, await follow(cluster, PODS, SECRETS, CONFIG_MAPS), Home.at(tmp_path))


async def test_a_pod_is_started_once_and_becomes_ready_when_its_probe_passes(world):
    world.healthy = False
    await world.step(2)
    assert (await world.container())["ready"] is False

    world.healthy = True
    await world.step()

    assert len(world.heads.started) == 1
    assert (await world.pod())["status"]["phase"] == "Running"
    container = await world.container()
    assert (container["ready"], container["restartCount"], container["containerID"]) == (True, 0, "process://1001")


async def test_the_token_reaches_ray_by_file_and_not_by_environment(world):
    await world.step()

    head, command, env = world.heads.started[0]
    assert head.token_path.read_text() == "secret"
    assert head.token_path.stat().st_mode & 0o077 == 0
    assert "RAY_AUTH_TOKEN" not in env
    assert "secret" not in " ".join(command)


async def test_the_log_lies_where_a_kubelet_puts_it(world):
    assert world.kubelet._log(await world.pod()) == world.home.pods / "default_phi-abcde-head-12345" / "ray.log"


async def test_a_head_that_died_is_started_again_and_counted(world):
    await world.step(2)

    world.dies()
    await world.step(2)

    container = await world.container()
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert "running" in container["state"]


async def test_a_head_that_dies_again_at_once_waits(world):
    await world.step(2)
    world.dies()
    await world.step(2)

    world.dies()
    await world.step(2)

    container = await world.container()
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert container["ready"] is False
    assert len(world.heads.started) == 2


async def test_a_new_agent_adopts_a_head_that_runs(world):
    await world.step(2)

    again = Kubelet(world.home, world.objects, "this", world.kubelet._probe, world.heads)
    await again.reconcile()

    assert len(world.heads.started) == 1
    assert (await world.container())["restartCount"] == 0


async def test_a_head_of_a_former_pod_of_the_same_cluster_is_not_taken_for_this_ones(world):
    await world.step()
    directory = world.heads.started[0][0].directory
    write_json(directory / "cluster.json", {"uid": "uid-of-cluster", "firstPort": 20000, "pod": "uid-of-another"})

    await world.step()

    assert len(world.heads.started) == 2


async def test_a_missing_secret_is_waited_for_in_words(world):
    await world.cluster.delete(SECRETS, "phi-abcde", "default")
    await world.step()
    await world.step()

    waiting = (await world.container())["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert "'phi-abcde'" in waiting["message"]
    assert world.heads.started == []


async def test_a_pod_whose_ports_are_taken_fails_so_that_another_can_be_made(world):
    world.heads.ports_taken = True

    await world.step()

    status = (await world.pod())["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "PortsTaken")


async def test_a_deleted_pod_goes_when_its_processes_are_gone(world):
    await world.step(2)
    log = world.kubelet._log(await world.pod())
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("lines")

    await world.cluster.delete(PODS, "phi-abcde-head-12345", "default")
    await world.step(2)

    assert await world.cluster.list(PODS) == []
    assert world.heads.alive == {}
    assert world.heads.forgotten == ["uid-of-cluster"]
    assert list(world.home.pods.iterdir()) == []


async def test_a_pod_stays_while_a_process_of_it_does(world):
    await world.step(2)
    world.heads.stubborn = True

    await world.cluster.delete(PODS, "phi-abcde-head-12345", "default")
    with pytest.raises(TransientError, match="1001"):
        await world.step(2)

    assert len(await world.cluster.list(PODS)) == 1


async def test_what_a_crash_left_without_a_pod_is_ended_and_removed(world):
    left: Path = world.home.ray / "default_old-abcde"
    write_json(left / "cluster.json", {"uid": "uid-of-old", "firstPort": 21000, "pod": "gone"})
    (world.home.pods / "default_old").mkdir()

    await world.step()

    assert world.heads.stopped == ["uid-of-old"]
    assert not left.exists()
    assert not (world.home.pods / "default_old").exists()


async def test_a_pod_of_another_node_is_left_alone(world):
    pod = await world.pod()
    await world.objects.replace(PODS, {**pod, "spec": {**pod["spec"], "nodeName": "other"}})

    await world.step()

    assert world.heads.started == []
