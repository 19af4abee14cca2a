"""What adapters take, place by place: the node's disk, the host's memory, the engine's slots.

Hundreds may be declared while each place holds so many and no more. A request brings its adapter from disk to host to
slot, and what was least recently used makes room: `cache` sees to the disk, vLLM to the two others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Literal

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployments.adapters.cache import Cache
from deployments.adapters.store import AdapterStore
from deployments.adapters.worker import Held
from kaito_ray.api.base import ApiModel

logger = logging.getLogger("ray.serve")

_PERIOD_S: Final = 5.0
"""How old a figure may be: neither `/metrics` nor `/adapters` waits for a busy engine."""

Where = Literal["disk", "host", "engine"]


class Place(ApiModel):
    """One place that adapters are kept in."""

    where: Where
    """The node's disk, shared by its replicas; the host's memory; the engine's slots."""
    adapters: int
    """How many it holds."""
    bytes: int
    """What they take; of the engine, what all slots take, empty or not."""
    adapters_limit: int | None = None
    """How many it holds at most; absent where bytes count."""
    bytes_limit: int | None = None
    """How many bytes it holds at most, but for adapters in use; absent where their number counts."""


class AdapterMemory(Collector):
    """The places of one replica, as `/adapters` and `/metrics` tell of them."""

    def __init__(self, store: AdapterStore, cache: Cache, held: Callable[[], Awaitable[list[Held]]]) -> None:
        """`held` asks the engine's workers; of an engine without LoRA there are none."""
        self._store = store
        self._cache = cache
        self._held = held
        self.places: tuple[Place, ...] = ()
        """As of the last look."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look every few seconds from now on."""
        self._task = self._task or asyncio.create_task(self._follow(), name="memory of adapters")

    async def look(self) -> None:
        """See what the places hold now."""
        adapters, taken = await asyncio.to_thread(self._cache.usage)
        disk = Place(where="disk", adapters=adapters, bytes=taken, bytes_limit=self._cache.limit_bytes)
        self.places = (disk, *_places(await self._held()))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as of the last look."""
        declared = GaugeMetricFamily("kaito_ray_adapters", "Adapters that the Workspace declares.", labels=["state"])
        for state, count in Counter(status.state for status in self._store.statuses()).items():
            declared.add_metric([state], count)
        yield declared
        told = {
            "adapters": GaugeMetricFamily("kaito_ray_adapters_held", "Adapters in each place.", labels=["where"]),
            "adapters_limit": GaugeMetricFamily("kaito_ray_adapters_held_limit", "And at most.", labels=["where"]),
            "bytes": GaugeMetricFamily("kaito_ray_adapter_bytes", "Bytes of adapters.", labels=["where"]),
            "bytes_limit": GaugeMetricFamily("kaito_ray_adapter_bytes_limit", "And at most.", labels=["where"]),
        }
        for place in self.places:
            for field, family in told.items():
                if (value := getattr(place, field)) is not None:
                    family.add_metric([place.where], value)
        yield from told.values()

    async def _follow(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # A figure that is missing must end nothing; a dead engine is told of elsewhere.
                logger.exception("memory of adapters is not known")
            await asyncio.sleep(_PERIOD_S)


def _places(workers: list[Held]) -> Iterator[Place]:
    """Yield the two places of an engine: each worker holds its part of the same adapters."""
    if not workers:
        return
    first = workers[0]
    yield Place(
        where="host",
        adapters=first["host_adapters"],
        adapters_limit=first["host_room"],
        bytes=sum(worker["host_bytes"] for worker in workers),
    )
    yield Place(
        where="engine",
        adapters=first["engine_adapters"],
        adapters_limit=first["engine_room"],
        bytes=sum(worker["engine_bytes"] for worker in workers),
    )
