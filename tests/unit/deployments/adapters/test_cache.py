from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from deployments.adapters.cache import Cache
from tests import adapters

A, B, C = (adapters.digest(letter.encode()) for letter in "abc")


async def fill(cache: Cache, digest: str, size: int = 100) -> None:
    async with cache.filling(digest) as filling:
        assert filling is not None
        (filling.adapter / "adapter_model.safetensors").write_bytes(bytes(size))


async def fail_to_fill(cache: Cache, digest: str) -> None:
    with suppress(ConnectionError):
        async with cache.filling(digest) as filling:
            (filling.parts / "blob.part").write_bytes(b"half")
            (filling.adapter / "adapter_config.json").write_bytes(b"half")
            raise ConnectionError


def age(cache_root: Path, digest: str, seconds: float) -> None:
    folder = cache_root / digest.replace(":", "-")
    os.utime(folder, (folder.stat().st_atime - seconds, folder.stat().st_mtime - seconds))


async def test_what_was_filled_is_there_whole(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(A) is None
    await fill(cache, A)
    entry = cache.get(A)
    assert entry is not None
    assert [path.name for path in entry.folder.iterdir()] == ["adapter_model.safetensors"]
    assert list((tmp_path / "partial").iterdir()) == []


async def test_a_failed_filling_shows_nothing_and_keeps_its_parts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    await fail_to_fill(cache, A)
    assert cache.get(A) is None
    async with cache.filling(A) as filling:
        assert (filling.parts / "blob.part").read_bytes() == b"half"
        assert list(filling.adapter.iterdir()) == []


async def test_two_replicas_fill_it_once(tmp_path: Path) -> None:
    filled: list[str] = []

    async def replica(name: str) -> None:
        async with Cache(tmp_path).filling(A) as filling:
            if filling is not None:
                await asyncio.sleep(0)
                filled.append(name)

    await asyncio.gather(replica("one"), replica("two"))
    assert len(filled) == 1


async def test_least_recently_used_goes_first_until_the_rest_fits(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=250)
    for digest in (A, B, C):
        await fill(cache, digest)
    for digest, seconds in ((A, 10), (B, 30), (C, 20)):
        age(tmp_path, digest, seconds)
    assert cache.evict() == [B]
    assert cache.get(B) is None
    assert cache.get(A) is not None


async def test_using_it_makes_it_recent(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=150)
    for digest in (A, B):
        await fill(cache, digest)
    age(tmp_path, A, 30)
    age(tmp_path, B, 10)
    cache.get(A).release()
    assert cache.evict() == [B]


async def test_what_is_in_use_stays_even_when_another_process_evicts(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=0)
    await fill(cache, A)
    entry = cache.get(A)
    assert Cache(tmp_path, limit_bytes=0).evict() == []
    entry.release()
    entry.release()
    assert cache.evict() == [A]


async def test_downloads_that_were_given_up_are_evicted_too(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=2)
    await fail_to_fill(cache, A)
    cache.evict()
    assert list((tmp_path / "partial").iterdir()) == []


async def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    Cache(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


async def test_evicting_while_another_fills_disturbs_neither(tmp_path: Path) -> None:
    stop = asyncio.Event()

    async def evict() -> None:
        while not stop.is_set():
            await asyncio.to_thread(Cache(tmp_path, limit_bytes=0).evict)

    evicting = [asyncio.create_task(evict()) for _ in range(2)]
    cache = Cache(tmp_path)
    for number in range(15):
        async with cache.filling(adapters.digest(str(number).encode())) as filling:
            for part in range(5):
                (filling.adapter / f"{part}").write_bytes(bytes(100))
                await asyncio.sleep(0)
    stop.set()
    await asyncio.gather(*evicting)
