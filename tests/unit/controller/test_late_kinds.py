"""Kinds that are installed after the operator started."""

import asyncio

import pytest

from kaito_ray.controller.late_kinds import appearance
from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import NODE_POOLS, RAY_SERVICES, Resource


class Server:
    """Knows more kinds each time that somebody slept."""

    def __init__(self, *known: set[Resource] | Exception) -> None:
        self.known = list(known)

    async def knows(self, resource: Resource) -> bool:
        now = self.known[0]
        if isinstance(now, Exception):
            raise now
        return resource in now

    async def sleep(self, _: float) -> None:
        if len(self.known) > 1:
            self.known.pop(0)
        await asyncio.sleep(0)


async def first(*known: set[Resource] | Exception) -> Resource:
    server = Server(*known)
    return await asyncio.wait_for(appearance((RAY_SERVICES, NODE_POOLS), server.knows, sleep=server.sleep), 0.05)


async def test_a_kind_that_appears_ends_the_wait() -> None:
    assert await first({NODE_POOLS}, {NODE_POOLS}, {NODE_POOLS, RAY_SERVICES}) == RAY_SERVICES


async def test_a_server_that_is_away_is_asked_again() -> None:
    assert await first(ApiUnavailable("gone"), set(), ApiUnavailable("gone"), {NODE_POOLS}) == NODE_POOLS


async def test_where_all_are_known_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(TimeoutError):
        await first({NODE_POOLS, RAY_SERVICES})
