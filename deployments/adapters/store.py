"""Keeps the engine's adapters equal to what the Workspace asks for, while it serves.

Each adapter has a task of its own: resolve, pull, check, scale, load. One that fails says why in its status and stops
nobody else; what may mend itself (a registry, a missing image, credentials) is tried again with growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from deployments.adapters.cache import DiskFull, Entry
from deployments.adapters.check import Base, check
from deployments.adapters.source import Progress
from deployments.adapters.strength import scaled
from kaito_ray.api.app_args import UserAdapter
from kaito_ray.api.status import AdapterStatus
from kaito_ray.errors import ImageNotFound, KaitoRayError, RegistryDenied, TransientError

logger = logging.getLogger("ray.serve")

_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_RELEASE_AFTER_S: Final = 900.0
"""How long files stay after an adapter is replaced or removed: requests in flight may still make the engine read them."""
_AT_ONCE: Final = 8
"""Adapters that are pulled and loaded at the same time; hundreds may be declared."""
_MEGABYTE: Final = 1_000_000


class Engine(Protocol):
    """What serves the adapters."""

    async def load(self, name: str, folder: Path, *, version: str, origin: str) -> None:
        """Serve the adapter in `folder` as `name`; requests in flight keep what `name` meant before.

        `version` differs where the weights or their scale differ; `origin` is for people.

        Raises:
            AdapterRefused: the engine cannot load it.
        """

    async def unload(self, name: str) -> None:
        """Stop serving `name` to new requests; no error where it is not served."""


class Files(Protocol):
    """Where adapters come from: `source.AdapterFiles`."""

    async def digest(self, adapter: UserAdapter) -> str:
        """Return the digest of what the source holds now."""

    async def obtain(self, adapter: UserAdapter, digest: str, progress: Progress) -> Entry:
        """Return the files of that digest, in use until released."""


@dataclass
class _Slot:
    """One name: what is wanted, what is served, and how far it is."""

    wanted: UserAdapter
    status: AdapterStatus
    task: asyncio.Task[None] | None = None
    served: UserAdapter | None = None
    """The wish that what the engine has answers to."""
    version: str | None = None
    """Of what the engine has."""
    entry: Entry | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is ready or has failed for the first time since it was asked for."""


class AdapterStore:
    """The adapters of one replica."""

    def __init__(
        self,
        engine: Engine,
        files: Files,
        base: Base,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine = engine
        self._files = files
        self._base = base
        self._sleep = sleep
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._slots: dict[str, _Slot] = {}

    async def converge(self, wanted: Sequence[UserAdapter]) -> None:
        """Stop serving what is not wanted, and begin to bring what is; tags are looked up again.

        It does not wait for pulls: Serve takes a replica out of rotation while it is being reconfigured. Progress and
        refusals are in `statuses`.
        """
        names = {adapter.name for adapter in wanted}
        for name in [name for name in self._slots if name not in names]:
            await self._remove(name)
        for adapter in wanted:
            slot = self._slots.get(adapter.name)
            if slot is None:
                slot = self._slots[adapter.name] = _Slot(adapter, AdapterStatus(name=adapter.name, state="Waiting"))
            await _stop(slot)
            slot.wanted = adapter
            slot.settled.clear()
            slot.task = asyncio.create_task(self._follow(slot), name=f"adapter {adapter.name}")

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every wanted adapter is ready or has failed once; say whether that came within `timeout_s`."""
        waits = [slot.settled.wait() for slot in self._slots.values()]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), timeout_s)
        except TimeoutError:
            return False
        return True

    def statuses(self) -> tuple[AdapterStatus, ...]:
        """Return how each wanted adapter is."""
        return tuple(slot.status for slot in self._slots.values())

    async def close(self) -> None:
        """Stop all work; the engine is left as it is."""
        for slot in self._slots.values():
            await _stop(slot)
            if slot.entry:
                slot.entry.release()
        self._slots.clear()

    async def _remove(self, name: str) -> None:
        slot = self._slots.pop(name)
        await _stop(slot)
        await self._engine.unload(name)
        _release_later(slot.entry)
        logger.info("adapter removed", extra={"adapter": name})

    async def _follow(self, slot: _Slot) -> None:
        """Bring the adapter, however often it takes."""
        delay_s = _FIRST_DELAY_S
        while True:
            state: Literal["Ready", "Pulling", "Failed"] = "Failed"
            try:
                async with self._turns:
                    return await self._bring(slot)
            except TransientError as error:
                words, again, state = str(error), True, "Pulling"
            except (ImageNotFound, RegistryDenied, DiskFull) as error:
                # A push, a rotated Secret or room on the disk mends it without a word to us.
                words, again = str(error), True
            except KaitoRayError as error:
                words, again = str(error), False
            except Exception as error:  # One adapter's trouble must not end the replica.
                logger.exception("adapter failed", extra={"adapter": slot.wanted.name})
                words, again = f"{type(error).__name__}: {error}", True
            if slot.served == slot.wanted:
                # Served as before; only whether its tag moved is not known.
                state = "Ready"
            elif slot.served is not None:
                words += "; until then its earlier version is served"
            if again:
                words += f"; trying again in {delay_s:.0f} s"
            slot.status = slot.status.model_copy(update={"state": state, "message": words})
            slot.settled.set()
            logger.warning("adapter not served", extra={"adapter": slot.wanted.name, "why": words})
            if not again:
                return None
            await self._sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    async def _bring(self, slot: _Slot) -> None:
        adapter = slot.wanted
        digest = await self._files.digest(adapter)
        version = f"{digest}*{adapter.strength!r}"
        if version != slot.version:
            slot.status = AdapterStatus(name=adapter.name, state="Pulling", digest=slot.status.digest)
            entry = await self._files.obtain(adapter, digest, _reporter(slot))
            try:
                await asyncio.to_thread(check, entry.folder, self._base)
                folder = await asyncio.to_thread(scaled, entry.folder, adapter.strength)
                origin = f"{adapter.image or adapter.path}@{digest}"
                await self._engine.load(adapter.name, folder, version=version, origin=origin)
            except BaseException:
                entry.release()
                raise
            _release_later(slot.entry)
            slot.entry, slot.version = entry, version
            logger.info("adapter loaded", extra={"adapter": adapter.name, "digest": digest})
        slot.served = adapter
        slot.status = AdapterStatus(name=adapter.name, state="Ready", digest=digest)
        slot.settled.set()


def _reporter(slot: _Slot) -> Progress:
    def report(done_bytes: int, all_bytes: int) -> None:
        words = f"pulled {done_bytes / _MEGABYTE:.1f} of {all_bytes / _MEGABYTE:.1f} MB"
        slot.status = slot.status.model_copy(update={"message": words})

    return report


def _release_later(entry: Entry | None) -> None:
    if entry is not None:
        asyncio.get_running_loop().call_later(_RELEASE_AFTER_S, entry.release)


async def _stop(slot: _Slot) -> None:
    if slot.task is not None:
        slot.task.cancel()
        await asyncio.wait([slot.task])
        slot.task = None
