"""What the operator makes of a replica's answer, and of none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from kaito_ray.api.status import AdapterStatus, ReplicaStart
from kaito_ray.controller.replicas import HttpReplicas


@asynccontextmanager
async def replica(answer: Any, status: int = 200) -> AsyncIterator[str]:
    """Run a server that answers `/adapters` and `/startup` so; yield its URL."""

    async def answered(_: web.Request) -> web.Response:
        return web.json_response(answer, status=status)

    app = web.Application()
    for path in ("/adapters", "/startup"):
        app.router.add_get(path, answered)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_it_is_copied_as_it_is_told() -> None:
    ready = AdapterStatus(name="a", state="Ready", digest="sha256:1")
    async with replica({"adapters": [ready.to_wire()]}) as url:
        assert await HttpReplicas().adapters(url) == (ready,)


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"adapters": []}, 503), ({}, 200), ({"adapters": [{"name": "a", "state": "Dancing"}]}, 200), ("text", 200)],
)
async def test_an_answer_that_is_none_is_no_answer(answer: Any, status: int) -> None:
    async with replica(answer, status) as url:
        assert await HttpReplicas().adapters(url) is None


async def test_nobody_there_is_no_answer() -> None:
    async with replica({}) as url:
        pass
    assert await HttpReplicas().adapters(url) is None
    assert await HttpReplicas().adapters(None) is None


async def test_a_replica_says_how_it_came_up() -> None:
    start = ReplicaStart(weights="2026-01-01T00:00:20Z", engine="2026-01-01T00:00:30Z")
    async with replica(start.to_wire()) as url:
        assert await HttpReplicas().started(url) == start
    async with replica({}, 404) as url:  # one of a worker image that is older than the operator
        assert await HttpReplicas().started(url) is None
