"""`kill -9` of each part of a control plane while a Workspace starts, serves and goes: it gets there unaided."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kaito_ray.kube.cluster import RAY_SERVICES, WORKSPACES
from kaito_ray.local import processes
from kaito_ray.testing.builders import adapter, workspace
from tests.e2e.faults.plane import Plane

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    async with Plane.at(tmp_path_factory.mktemp("plane") / "home") as plane:
        yield plane


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def undisturbed(plane: Plane) -> dict[str, int]:
    """How many objects of each kind there are where nobody is killed."""
    await plane.apply(workspace())
    await plane.until(plane.ready)
    found = await plane.count()
    await plane.client.delete(WORKSPACES, "smol", "default")
    await plane.until_nothing_is_left()
    return found


async def served(plane: Plane, words: str) -> bool:
    """Say whether what was written last is what is served."""
    service = await plane.client.get(RAY_SERVICES, "smol", "default")
    return bool(await plane.ready()) and service is not None and words in service["spec"]["serveConfigV2"]


@pytest.mark.parametrize("victim", ["apiserver", "operator", "machine", "head"])
async def test_while_it_starts_serves_and_goes(plane: Plane, undisturbed: dict[str, int], victim: str) -> None:
    await plane.apply(workspace())
    await plane.kill(victim)
    await plane.until(plane.ready)
    assert await plane.count() == undisturbed

    await plane.apply(workspace(inference={"adapters": [adapter()]}))
    await plane.kill(victim)  # the edit was acknowledged
    await plane.until(lambda: served(plane, "style"))
    assert await plane.count() == undisturbed

    sessions = [Path(json.loads(path.read_text())["session"]) for path in plane.home.ray.glob("*/head.json")]
    assert len(sessions) == 1
    assert sessions[0].exists()
    process = await plane.victim(victim)
    await plane.client.delete(WORKSPACES, "smol", "default")
    processes.send(process, signal.SIGKILL)
    await plane.until_nothing_is_left()
    assert not sessions[0].exists()


async def test_a_second_control_plane_of_this_machine_is_none_of_its_business(plane: Plane, tmp_path: Path) -> None:
    await plane.apply(workspace())
    await plane.until(plane.ready)
    mine = plane.processes()
    async with Plane.at(tmp_path / "home") as other:
        await other.apply(workspace())
        await other.until(other.ready)
        endpoints = {(await one.workspace() or {})["status"]["endpoint"] for one in (plane, other)}
        assert len(endpoints) == 2
        assert not {p.pid for p in mine} & {p.pid for p in other.processes()}
        await other.client.delete(WORKSPACES, "smol", "default")
        await other.until_nothing_is_left()
    assert set(mine) <= set(plane.processes())
    assert await plane.ready()
    await plane.client.delete(WORKSPACES, "smol", "default")
    await plane.until_nothing_is_left()
