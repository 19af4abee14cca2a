"""One watch serves every Workspace; what it cannot tell is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress

import pytest

from kaito_ray.controller import node_claims
from kaito_ray.controller.node_claims import NodeClaims
from kaito_ray.controller.queue import Key
from kaito_ray.errors import ApiRefused
from kaito_ray.kube.cluster import NODE_CLAIMS, Change, Manifest, Resource
from kaito_ray.testing.fake_cluster import FakeCluster

OURS = Key("default", "smol")
POOL = {"karpenter.sh/nodepool": "default-smol"}


def claim(name: str, workspace: str = "smol") -> Manifest:
    labels = {"kaito.sh/workspace": workspace, "kaito.sh/workspacenamespace": "default"}
    return {"metadata": {"name": name, "labels": {**labels, "karpenter.sh/nodepool": f"default-{workspace}"}}}


class Counting(FakeCluster):
    lists = 0

    async def list(self, *args: object, **more: object) -> list[Manifest]:
        self.lists += 1
        return await super().list(*args, **more)  # type: ignore[arg-type]


class Refusing(Counting):
    def watch(self, resource: Resource, namespace: str | None = None) -> AsyncGenerator[Change, None]:
        raise ApiRefused("nodeclaims is forbidden")


async def following(claims: NodeClaims, then: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(claims.follow())
    for _ in range(5):
        await asyncio.sleep(0)
    await then()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def found(claims: list[Manifest]) -> list[str]:
    return [one["metadata"]["name"] for one in claims]


async def test_claims_are_known_without_asking_as_they_come_and_go() -> None:
    cluster, told = Counting(), list[Key]()
    await cluster.create(NODE_CLAIMS, claim("b"))
    await cluster.create(NODE_CLAIMS, claim("other", "phi"))
    claims = NodeClaims(cluster, told.append)

    async def story() -> None:
        assert found(await claims.of(OURS, POOL)) == ["b"]
        await cluster.create(NODE_CLAIMS, claim("a"))
        await asyncio.sleep(0)
        assert found(await claims.of(OURS, POOL)) == ["a", "b"]
        await cluster.delete(NODE_CLAIMS, "b")
        await asyncio.sleep(0)
        assert found(await claims.of(OURS, POOL)) == ["a"]
        assert found(await claims.of(OURS, {**POOL, "more": "x"})) == []

    await following(claims, story)
    assert told == [OURS, Key("default", "phi"), OURS, OURS]
    assert cluster.lists == 0


async def test_before_all_are_known_the_api_server_is_asked() -> None:
    cluster = Counting()
    await cluster.create(NODE_CLAIMS, claim("a"))
    assert found(await NodeClaims(cluster).of(OURS, POOL)) == ["a"]
    assert cluster.lists == 1


@pytest.mark.parametrize("looks", [1, 3])
async def test_claims_that_may_not_be_watched_are_asked_for(looks: int) -> None:
    cluster = Refusing()
    await cluster.create(NODE_CLAIMS, claim("a"))
    claims = NodeClaims(cluster)

    async def story() -> None:
        for _ in range(looks):
            assert found(await claims.of(OURS, POOL)) == ["a"]

    await following(claims, story)
    assert cluster.lists == looks


async def test_warnings_are_read_once_for_all_who_ask_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, now = Counting(), 100.0
    monkeypatch.setattr(node_claims, "monotonic", lambda: now)
    claims = NodeClaims(cluster)
    for _ in range(3):
        assert await claims.warnings() == []
    assert cluster.lists == 1
    now += node_claims.FRESH_S
    await claims.warnings()
    assert cluster.lists == 2
