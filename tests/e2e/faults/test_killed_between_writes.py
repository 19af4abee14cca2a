"""The operator killed between any two of its writes, for every write that it makes: its successor ends in the same place.

A killed operator knows nothing more than the API server does, so one that dies after a write took effect and one that
dies before the next are the same: N writes have N places to die at, and each is tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from kaito_ray.api.crd import crd
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import TransientError
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import CONFIG_MAPS, CRDS, EVENTS, RAY_CLUSTERS, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.local import crds
from kaito_ray.local.install import install
from kaito_ray.local.raycluster import HASH, spec_hash
from kaito_ray.testing.builders import TUNING, adapter, workspace
from kaito_ray.testing.fake_replicas import FakeReplicas
from tests.apiserver import ApiServer
from tests.e2e.faults.stage import Killed, Mortal, Stage

SETTINGS: Final = Settings(provider="local", worker_image="registry.example.com/worker:1")
KEY: Final = Key("default", "smol")
OPTIONS: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "options", "namespace": "default"},
    "data": {"inference_config.yaml": "vllm:\n  max-model-len: 1024\n"},
}

PUSH: Final[Manifest] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "push", "namespace": "default"},
    "type": "kubernetes.io/dockerconfigjson",
    "stringData": {".dockerconfigjson": '{"auths": {}}'},
}

Done = Callable[[Stage], Awaitable[bool]]


async def operate(stage: Stage, done: Done, *, lives_for: int | None = None) -> list[tuple[str, str, str]]:
    """Be the operator until `done`, or until it is killed; return its writes."""
    cluster = Mortal(stage.server.kubeconfig, lives_for=lives_for)
    try:
        async with asyncio.timeout(30):
            while not await done(stage):
                try:
                    await reconcile(cluster, FakeReplicas(), KEY, SETTINGS)
                except TransientError:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.02)
    finally:
        await cluster.close()
    return cluster.writes


async def until_it_needs_no_more_kills(stage: Stage, begin: Callable[[], Awaitable[Any]], done: Done) -> int:
    """Play the same story again and again, the operator killed after its first write, its second, and so on.

    Return after how many writes it was done.
    """
    for lives_for in range(1, 60):
        await begin()
        try:
            await operate(stage, done, lives_for=lives_for)
        except Killed:
            await operate(stage, done)
        else:
            return lives_for - 1
    raise AssertionError("it never stops writing")


async def is_ready(stage: Stage) -> bool:
    return await stage.ready()


async def is_settled(stage: Stage) -> bool:
    """Say whether it is ready, on one cluster, which is made of what the RayService says now."""
    clusters = (await stage.objects()).get("RayCluster", [])
    service = await stage.client.get(RAY_SERVICES, "smol", "default")
    if not await stage.ready() or len(clusters) != 1 or service is None:
        return False
    wanted = spec_hash(service["spec"]["rayClusterConfig"])
    cluster = await stage.client.get(RAY_CLUSTERS, clusters[0], "default")
    seen = service["status"]["observedGeneration"] == service["metadata"]["generation"]
    return seen and cluster is not None and cluster["metadata"]["annotations"][HASH] == wanted


async def is_gone(stage: Stage) -> bool:
    return await stage.workspace() is None


async def gone(stage: Stage) -> None:
    await stage.client.delete(WORKSPACES, "smol", "default")
    await operate(stage, is_gone)
    await stage.until_nothing_is_left()


def all_ended_alike(stories: list[Any], kills: int) -> None:
    """Compare the end of the undisturbed story, the first one, with that of each in which the operator was killed."""
    undisturbed, *disturbed = stories
    assert len(disturbed) == kills
    for told in disturbed:
        assert told == undisturbed


async def story(stage: Stage) -> Any:
    """Return what a Workspace has become, without what differs from one to the next."""
    found = await stage.workspace()
    assert found is not None
    service = await stage.client.get(RAY_SERVICES, "smol", "default")
    assert service is not None
    status = found["status"]
    conditions = [(c["type"], c["status"], c["reason"]) for c in status["conditions"]]
    objects = {kind: len(names) for kind, names in (await stage.objects()).items()}
    spec = found["inference"]
    return objects, spec, conditions, status["plan"], service["spec"], sorted(await reasons(stage, found))


async def reasons(stage: Stage, about: Manifest) -> set[str]:
    events = await stage.client.list(EVENTS, "default")
    return {e["reason"] for e in events if e["involvedObject"].get("uid") == about["metadata"]["uid"]}


async def test_while_creating(stage: Stage) -> None:
    await stage.apply(workspace())
    await operate(stage, is_ready)
    undisturbed = await story(stage)
    await gone(stage)
    stories = []

    async def begin() -> None:
        if await stage.workspace() is not None:
            stories.append(await story(stage))
            await gone(stage)
        await stage.apply(workspace())

    writes = await until_it_needs_no_more_kills(stage, begin, is_ready)
    assert writes >= 8
    assert len(stories) == writes
    for told in stories:
        assert told == undisturbed
    await gone(stage)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"adapters": [adapter()]}, id="in-place"),
        pytest.param({"config": "options"}, id="another-cluster"),
    ],
)
async def test_while_editing(stage: Stage, changes: dict[str, Any]) -> None:
    await stage.client.create(CONFIG_MAPS, OPTIONS)
    await stage.apply(workspace())
    await operate(stage, is_settled)
    edited = workspace(inference=changes)
    stories: list[Any] = []
    begun: list[bool] = []

    async def begin() -> None:
        if begun:
            stories.append(await story(stage))
            await stage.apply(workspace())
            await operate(stage, is_settled)
        await stage.apply(edited)
        begun.append(True)

    await begin()
    await operate(stage, is_settled)
    writes = await until_it_needs_no_more_kills(stage, begin, is_settled)
    assert writes >= 2
    all_ended_alike(stories, writes)
    await stage.client.delete(CONFIG_MAPS, "options", "default")
    await gone(stage)


async def test_while_deleting(stage: Stage) -> None:
    async def begin() -> None:
        await stage.until_nothing_is_left()
        await stage.apply(workspace())
        await operate(stage, is_ready)
        await stage.client.delete(WORKSPACES, "smol", "default")

    writes = await until_it_needs_no_more_kills(stage, begin, is_gone)
    assert writes >= 4


async def test_while_tuning(stage: Stage) -> None:
    await stage.client.create(SECRETS, PUSH)
    tuning = workspace(inference=None, tuning=TUNING)

    async def is_tuned(stage: Stage) -> bool:
        """Say whether the adapter is delivered, and the machine given back."""
        found = await stage.workspace() or {}
        given_back = not (await stage.objects()).keys() & {"NodePool", "NodeClaim"}
        return found.get("status", {}).get("state") == "Succeeded" and given_back

    async def ends() -> tuple[Any, ...]:
        found = await stage.workspace()
        assert found is not None
        status = found["status"]
        conditions = [(c["type"], c["status"], c["reason"]) for c in status["conditions"]]
        assert "TuningSucceeded" in await reasons(stage, found)
        return await stage.count(), conditions, status["plan"]

    stories: list[Any] = []

    async def begin() -> None:
        if await stage.workspace() is not None:
            stories.append(await ends())
            await stage.client.delete(WORKSPACES, "smol", "default")
            await operate(stage, is_gone)
        await stage.apply(tuning)

    await begin()
    await operate(stage, is_tuned)
    writes = await until_it_needs_no_more_kills(stage, begin, is_tuned)
    assert writes >= 6
    all_ended_alike(stories, writes)
    await stage.client.delete(SECRETS, "push", "default")
    await gone(stage)


async def test_while_the_control_plane_is_installed(server: ApiServer) -> None:
    client, manifests = KubernetesCluster(server.kubeconfig), [crd(), *crds.manifests()]

    async def specs() -> dict[str, Any]:
        return {found["metadata"]["name"]: found["spec"] for found in await client.list(CRDS)}

    undisturbed = await specs()
    for lives_for in range(1, len(manifests) + 1):
        for manifest in manifests:
            await client.delete(CRDS, manifest["metadata"]["name"])
        while await specs():
            await asyncio.sleep(0.02)
        cluster = Mortal(server.kubeconfig, lives_for=lives_for)
        with pytest.raises(Killed):
            await install(cluster, manifests)
        await cluster.close()
        await install(client, manifests)
        assert await specs() == undisturbed
    await client.close()


async def test_an_operator_that_never_lives_long_gets_there_too(stage: Stage) -> None:
    """Four writes are the most that must fit into one life: three Events, and the status that says they were told."""

    async def through(done: Done) -> int:
        for lives in range(1, 60):
            try:
                await operate(stage, done, lives_for=4)
            except Killed:
                continue
            return lives
        raise AssertionError("it gets nowhere")

    await stage.apply(workspace())
    assert await through(is_ready) > 2
    assert len((await stage.objects())["RayService"]) == 1
    await stage.client.delete(WORKSPACES, "smol", "default")
    await through(is_gone)
