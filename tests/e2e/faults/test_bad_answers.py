"""Operator and machine agent behind an API server that answers badly: they get there unaided, and to the same place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kaito_ray.kube.cluster import CONFIG_MAPS, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import adapter, workspace
from tests.apiserver import ApiServer
from tests.e2e.faults.operator import Operator
from tests.e2e.faults.stage import Stage
from tests.faulty_api import FaultyApi, Impatience, conflicts, expired_watches, one_in, slow

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(server: ApiServer) -> AsyncIterator[FaultyApi]:
    async with FaultyApi.before(server) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server: ApiServer, api: FaultyApi, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    home: Path = tmp_path_factory.mktemp("machine") / "home"
    async with Stage.on(server, home, agent=api.kubeconfig) as stage:
        operator = Operator(stage, api.kubeconfig)
        await stage.until(operator.leads)
        yield stage
        await operator.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(stage: Stage) -> dict[str, int]:
    """How many objects of each kind there are where every answer is good."""
    return await there_and_back(stage)


async def there_and_back(stage: Stage) -> dict[str, int]:
    """Serve, edit, delete; return how many objects of each kind there were."""
    await stage.apply(workspace())
    await stage.until(stage.ready)
    await stage.apply(workspace(inference={"adapters": [adapter()]}))
    await stage.until(stage.ready)
    found = await stage.count()
    await stage.client.delete(WORKSPACES, "smol", "default")
    await stage.until_nothing_is_left()
    return found


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"fault": one_in(5, 500)}, id="500"),
        pytest.param({"fault": one_in(5, 429)}, id="429"),
        pytest.param({"fault": conflicts()}, id="conflict-at-every-write"),
        pytest.param({"fault": slow(0.05)}, id="slow"),
        pytest.param({"fault": expired_watches(), "cut_watches_after_bytes": 3000}, id="watches-expired-and-cut"),
    ],
)
async def test_they_get_there_in_spite_of(
    stage: Stage, api: FaultyApi, undisturbed: dict[str, int], fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(api, name, value)
    try:
        assert await there_and_back(stage) == undisturbed
    finally:
        api.fault = api.cut_watches_after_bytes = None


async def test_a_server_that_asks_to_be_left_alone_is_left_alone(stage: Stage, api: FaultyApi) -> None:
    # The agent has a client of its own, and was not asked; only the operator writes here.
    api.fault = impatience = Impatience(after_s=2)
    await stage.client.create(WORKSPACES, workspace(metadata={"name": "calm"}))
    await stage.until(lambda: stage.ready("calm"))
    api.fault = None
    assert impatience.asked_at
    assert impatience.early == []
    await stage.client.delete(WORKSPACES, "calm", "default")
    await stage.until_nothing_is_left()


async def test_an_object_of_a_megabyte_is_watched_like_any_other(stage: Stage) -> None:
    big: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "big", "namespace": "default"},
        "data": {"text": "x" * 900_000},
    }
    await stage.client.create(CONFIG_MAPS, big)
    await there_and_back(stage)
    await stage.client.delete(CONFIG_MAPS, "big", "default")


async def test_a_hundred_edits_in_a_second_end_as_the_last_one(stage: Stage, api: FaultyApi) -> None:
    await stage.apply(workspace())
    await stage.until(stage.ready)
    api.writes.clear()
    for number in range(100):
        await stage.apply(workspace(inference={"adapters": [adapter(strength=f"0.{number:03}")]}))
    await stage.until(stage.ready)
    service = await stage.client.get(RAY_SERVICES, "smol", "default")
    assert service is not None
    assert "0.099" in service["spec"]["serveConfigV2"]
    await asyncio.sleep(1)
    ours = {path: n for (_, path), n in api.writes.items() if "/rayservices/smol" in path and "status" not in path}
    assert 1 <= sum(ours.values()) <= 100
    assert sum(n for (_, path), n in api.writes.items() if path.endswith("/workspaces/smol/status")) <= 100
    await stage.client.delete(WORKSPACES, "smol", "default")
    await stage.until_nothing_is_left()


async def test_deleted_while_it_starts(stage: Stage) -> None:
    stage.machine.settles = False
    await stage.apply(workspace())
    await stage.until(lambda: stage.alive(1))
    await stage.client.delete(WORKSPACES, "smol", "default")
    await stage.until_nothing_is_left()
    stage.machine.settles = True


async def test_deleted_and_made_again_at_once_under_its_name(stage: Stage) -> None:
    uids = set()
    for _ in range(3):
        await stage.apply(workspace())
        await stage.until(stage.ready)
        found = await stage.workspace()
        assert found is not None
        uids.add(found["metadata"]["uid"])
        for secret in ("smol-keys", "smol-registry"):
            child = await stage.client.get(SECRETS, secret, "default")
            assert child is not None
            assert child["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
        assert "NameTaken" not in await stage.reasons("smol")
        await stage.client.delete(WORKSPACES, "smol", "default")
        await stage.until(lambda: stage.is_gone("smol"))
    assert len(uids) == 3
    await stage.until_nothing_is_left()


async def test_two_side_by_side_do_not_meet(stage: Stage) -> None:
    names = ("one", "two")
    for name in names:
        await stage.apply(workspace(metadata={"name": name}))
    for name in names:
        await stage.until(partial(stage.ready, name))
    endpoints = {(await stage.workspace(name) or {})["status"]["endpoint"] for name in names}
    assert len(endpoints) == 2
    await stage.client.delete(WORKSPACES, "one", "default")
    await stage.until(lambda: stage.is_gone("one"))
    assert await stage.ready("two")
    await stage.client.delete(WORKSPACES, "two", "default")
    await stage.until_nothing_is_left()
