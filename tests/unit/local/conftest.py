from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest_asyncio

from kaito_ray.kube.cluster import Cluster, Resource
from kaito_ray.local.objects import Objects

Follow = Callable[..., Awaitable[Objects]]


@pytest_asyncio.fixture
async def follow() -> AsyncIterator[Follow]:
    """Follow some kinds of a cluster until the test ends; the copy is complete when this returns."""
    tasks: list[asyncio.Task[None]] = []

    async def start(cluster: Cluster, *resources: Resource) -> Objects:
        objects = Objects(cluster, resources)
        tasks.append(asyncio.create_task(objects.follow()))
        while not objects.synced:
            await asyncio.sleep(0)
        return objects

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
