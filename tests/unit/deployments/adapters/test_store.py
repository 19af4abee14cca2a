from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from deployments.adapters.cache import Cache
from deployments.adapters.check import Base
from deployments.adapters.source import AdapterFiles
from deployments.adapters.store import AdapterStore
from kaito_ray.api.app_args import UserAdapter
from kaito_ray.api.status import AdapterStatus
from kaito_ray.errors import AdapterRefused
from tests import adapters
from tests.unit.deployments.adapters.memory_registry import MemoryRegistry

PACKED = adapters.gzipped(adapters.tar(adapters.files()))


class RecordingEngine:
    """Serves names, and remembers each step."""

    def __init__(self) -> None:
        self.serving: dict[str, Path] = {}
        self.steps: list[str] = []
        self.origins: dict[str, str] = {}
        self.refusals: list[Exception] = []

    async def load(self, name: str, folder: Path, *, version: str, origin: str) -> None:
        assert (folder / "adapter_model.safetensors").is_file()
        if self.refusals:
            raise self.refusals.pop()
        self.steps.append(f"load {name} {version.partition('*')[2]}")
        self.serving[name] = folder
        self.origins[name] = origin

    async def unload(self, name: str) -> None:
        self.steps.append(f"unload {name}")
        self.serving.pop(name, None)


class HeldSleep:
    """Each pause lasts until the test ends it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._pauses: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        pause = asyncio.get_running_loop().create_future()
        self._pauses.put_nowait(pause)
        await pause

    async def pass_one(self) -> None:
        (await self._pauses.get()).set_result(None)


class Scene:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry, self.engine, self.sleep = MemoryRegistry(), RecordingEngine(), HeldSleep()
        self.cache = Cache(root / "cache", limit_bytes=0)
        files = AdapterFiles(self.cache, credentials=root / "secrets", transport=self.registry.transport())
        self.store = AdapterStore(self.engine, files, Base(max_lora_rank=8), sleep=self.sleep)

    async def want(self, *wanted: UserAdapter) -> dict[str, AdapterStatus]:
        await self.store.converge(wanted)
        assert await self.store.settled(5)
        return self.statuses()

    def statuses(self) -> dict[str, AdapterStatus]:
        return {status.name: status for status in self.store.statuses()}

    async def until(self, name: str, state: str) -> AdapterStatus:
        async with asyncio.timeout(5):
            while self.statuses()[name].state != state:
                await asyncio.sleep(0.001)
        return self.statuses()[name]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    await scene.store.close()


def adapter(name: str = "a", *, strength: float = 1.0, tag: str = "v1") -> UserAdapter:
    return UserAdapter(name=name, image=f"r.io/team/{name}:{tag}", strength=strength)


async def test_what_is_wanted_is_served_with_its_digest(scene: Scene) -> None:
    digest = scene.registry.push("v1", PACKED)
    statuses = await scene.want(adapter())
    assert statuses == {"a": AdapterStatus(name="a", state="Ready", digest=digest)}
    assert scene.engine.steps == ["load a 1.0"]
    assert scene.engine.origins == {"a": f"r.io/team/a:v1@{digest}"}


async def test_the_same_again_loads_nothing(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    await scene.want(adapter())
    await scene.want(adapter())
    assert scene.engine.steps == ["load a 1.0"]


async def test_adding_one_leaves_the_others_alone(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    await scene.want(adapter("a"))
    await scene.want(adapter("a"), adapter("b"))
    assert scene.engine.steps == ["load a 1.0", "load b 1.0"]


async def test_removing_one_stops_it_before_converge_returns(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    await scene.want(adapter("a"), adapter("b"))
    await scene.store.converge([adapter("b")])
    assert set(scene.engine.serving) == {"b"}
    assert set(scene.statuses()) == {"b"}


async def test_another_strength_is_loaded_over_the_old_without_a_gap(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    await scene.want(adapter())
    await scene.want(adapter(strength=0.5))
    assert scene.engine.steps == ["load a 1.0", "load a 0.5"]
    config = json.loads((scene.engine.serving["a"] / "adapter_config.json").read_bytes())
    assert config["lora_alpha"] == 4.0


async def test_a_moved_tag_is_noticed_on_the_next_change(scene: Scene) -> None:
    first = scene.registry.push("v1", PACKED)
    assert (await scene.want(adapter()))["a"].digest == first
    second = scene.registry.push("v1", adapters.tar(adapters.files()))
    assert (await scene.want(adapter(), adapter("b")))["a"].digest == second


async def test_one_that_does_not_fit_is_refused_by_name_and_the_others_serve(scene: Scene) -> None:
    scene.registry.push("good", PACKED)
    scene.registry.push("bad", adapters.tar(adapters.files(r=64)))
    statuses = await scene.want(adapter("a", tag="good"), adapter("b", tag="bad"))
    assert statuses["a"].state == "Ready"
    assert statuses["b"].state == "Failed"
    assert "rank 64 is above max_lora_rank 8" in statuses["b"].message
    assert set(scene.engine.serving) == {"a"}
    assert scene.sleep.asked == [], "the same bytes will not fit later"


async def test_a_replacement_that_does_not_fit_leaves_the_old_one_serving(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    scene.registry.push("v2", adapters.tar(adapters.files(r=64)))
    await scene.want(adapter())
    before = dict(scene.engine.serving)
    await scene.store.converge([adapter(tag="v2")])
    assert "until then its earlier version is served" in (await scene.until("a", "Failed")).message
    assert scene.engine.serving == before


async def test_one_that_serves_stays_ready_when_its_tag_cannot_be_looked_up(scene: Scene) -> None:
    digest = scene.registry.push("v1", PACKED)
    await scene.want(adapter())
    scene.registry.meddle = lambda _: httpx.Response(401)
    status = (await scene.want(adapter()))["a"]
    assert (status.state, status.digest) == ("Ready", digest)
    assert "answered 401" in status.message
    scene.registry.meddle = lambda _: None
    await scene.sleep.pass_one()
    async with asyncio.timeout(5):
        while scene.statuses()["a"].message:
            await asyncio.sleep(0.001)


async def test_the_engines_own_refusal_is_the_adapters(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    scene.engine.refusals = [AdapterRefused("vLLM cannot load it: no")]
    assert (await scene.want(adapter()))["a"].message == "vLLM cannot load it: no"


async def test_an_image_that_is_pushed_later_is_found(scene: Scene) -> None:
    status = (await scene.want(adapter()))["a"]
    assert status.state == "Failed"
    assert "push it first; trying again in 1 s" in status.message
    scene.registry.push("v1", PACKED)
    await scene.sleep.pass_one()
    await scene.until("a", "Ready")


async def test_pauses_stop_growing(scene: Scene) -> None:
    await scene.want(adapter())
    for _ in range(8):
        await scene.sleep.pass_one()
    assert scene.sleep.asked[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


async def test_a_surprise_ends_one_attempt_and_not_the_replica(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.registry.push("v1", PACKED)
    scene.engine.refusals = [OSError(28, "No space left on device")]
    status = (await scene.want(adapter()))["a"]
    assert status.state == "Failed"
    assert "No space left on device" in status.message
    await scene.sleep.pass_one()
    await scene.until("a", "Ready")
    assert "adapter failed" in caplog.messages


async def test_a_new_wish_ends_the_old_attempt(scene: Scene) -> None:
    await scene.want(adapter(tag="absent"))
    scene.registry.push("v1", PACKED)
    await scene.store.converge([adapter()])
    await scene.until("a", "Ready")


async def test_many_come_a_few_at_a_time(scene: Scene) -> None:
    scene.registry.push("v1", PACKED)
    under_way, most = 0, 0
    load = scene.engine.load

    async def slow_load(*args: Any, **kwargs: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        await load(*args, **kwargs)
        under_way -= 1

    scene.engine.load = slow_load
    statuses = await scene.want(*(adapter(f"a{number}") for number in range(40)))
    assert {status.state for status in statuses.values()} == {"Ready"}
    assert most <= 8


async def test_files_in_use_are_not_evicted_and_stay_for_requests_in_flight(scene: Scene) -> None:
    first = scene.registry.push("v1", PACKED)
    await scene.want(adapter())
    assert scene.cache.evict() == []
    await scene.want()
    assert scene.cache.evict() == [], "removed, but a request in flight may still need it"
    assert scene.cache.get(first) is not None


async def test_a_pull_that_takes_long_does_not_hold_converge(scene: Scene) -> None:
    await scene.store.converge([adapter()])
    assert scene.statuses()["a"].state == "Waiting"
    assert not await scene.store.settled(0)


async def test_a_full_disk_is_told_with_the_remedy_and_over_when_there_is_room(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.registry.push("v1", PACKED)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as disk:
        disk.setattr("deployments.adapters.source._unpack", Mock(side_effect=full))
        status = (await scene.want(adapter()))["a"]
    assert status.state == "Failed"
    assert status.message is not None
    assert str(scene.root / "cache") in status.message
    assert "No space left on device" in status.message
    assert "inference.adapters" in status.message
    assert "trying again" in status.message
    await scene.sleep.pass_one()
    await scene.until("a", "Ready")
