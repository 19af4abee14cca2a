"""Requests of an adapter go where it is: HAProxy, with the configuration that Ray Serve writes, before eight replicas."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from kaito_ray.local import ray_head
from kaito_ray.local.ports import LOOPBACK, choose, listening
from kaito_ray.local.ray_head import RayHead
from kaito_ray.render.affinity import balance
from kaito_ray.render.rayservice import PROXY

BASE = "phi-4"
BUFFER_BYTES = int(PROXY["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"])
REPLICAS = 8
SERVICE_S = 0.02
ADAPTERS = [f"adapter-{number}" for number in range(64)]


@dataclass
class Replica:
    """Answers after a while, and remembers who was asked for."""

    port: int = field(default_factory=unused_port)
    asked: Counter[str] = field(default_factory=Counter)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[(await request.json()).get("model", "")] += 1
        await asyncio.sleep(SERVICE_S)
        return web.json_response({})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/-/healthz", _healthy)
        app.router.add_post("/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response()


@dataclass
class Front:
    """HAProxy before the replicas."""

    url: str
    http: aiohttp.ClientSession
    replicas: Sequence[Replica]

    async def ask(self, model: str | None, **more: Any) -> None:
        body = json.dumps({**more, **({"model": model} if model else {})})
        async with self.http.post(f"{self.url}/v1/completions", data=body) as answer:
            assert answer.status == 200, await answer.text()

    async def load(self, models: Sequence[str | None], *, clients: int) -> None:
        """Ask for these models in order, so many at a time."""
        left = iter(models)

        async def client() -> None:
            for model in left:
                await self.ask(model)

        await asyncio.gather(*(client() for _ in range(clients)))

    @property
    def asked(self) -> list[int]:
        return [replica.asked.total() for replica in self.replicas]

    def holders(self, model: str) -> int:
        """How many replicas were asked for it."""
        return sum(model in replica.asked for replica in self.replicas)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with fronted(tmp_path, [Replica() for _ in range(REPLICAS)], Replica()) as front:
        yield front


@asynccontextmanager
async def fronted(tmp_path: Path, replicas: Sequence[Replica], fallback: Replica) -> AsyncIterator[Front]:
    """HAProxy before the replicas, and Serve's own proxy, where requests wait while there are none."""
    port, path = unused_port(), tmp_path / "haproxy.cfg"
    backend = BackendConfig(
        name="http-default",
        path_prefix="/",
        app_name="default",
        servers=[ServerConfig(f"replica-{n}", LOOPBACK, replica.port) for n, replica in enumerate(replicas)],
        fallback_server=ServerConfig("fallback", LOOPBACK, fallback.port),
    )
    config = HAProxyConfig(
        socket_path=str(tmp_path / "admin.sock"),
        server_state_base=str(tmp_path),
        server_state_file=str(tmp_path / "server-state"),
        stats_port=unused_port(),
        metrics_port=unused_port(),
        metrics_enabled=False,
        nbthread=1,
        log_target=str(tmp_path / "log.sock"),
        balance_algorithm=balance(BASE),
        bufsize=BUFFER_BYTES,
        http_options=HTTPOptions(host=LOOPBACK, port=port),
    )
    HAProxyApi(config, {backend.name: backend}, str(path))._generate_config_file_internal()
    head = RayHead("e2e-affinity", tmp_path, choose("e2e-affinity", (), busy=listening()))
    ray_head.prepare(head)
    async with AsyncExitStack() as stack:
        for replica in (*replicas, fallback):
            await stack.enter_async_context(replica.running())
        process = await asyncio.create_subprocess_exec(tmp_path / "haproxy", "-db", "-f", str(path))
        try:
            http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
            await _listens(port)
            yield Front(f"http://{LOOPBACK}:{port}", http, replicas)
        finally:
            process.terminate()
            await process.wait()
            ray_head.forget(head)


async def _listens(port: int) -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise AssertionError("HAProxy does not listen")


async def test_one_after_another_each_adapter_stays_on_its_replica(front: Front) -> None:
    for _ in range(3):
        for name in ADAPTERS:
            await front.ask(name)
    assert {front.holders(name) for name in ADAPTERS} == {1}
    assert min(front.asked) > 0, "the adapters must be spread"


async def test_model_is_found_after_a_long_conversation(front: Front) -> None:
    for _ in range(8):
        await front.ask("late", messages=[{"role": "user", "content": "x" * (BUFFER_BYTES - 4096)}])
    assert front.holders("late") == 1


@pytest.mark.parametrize("model", [BASE, None], ids=["the base model", "none"])
async def test_requests_for_no_adapter_go_to_everybody(front: Front, model: str | None) -> None:
    await front.load([model] * 50 * REPLICAS, clients=REPLICAS)
    assert min(front.asked) / 50 > 0.5
    assert max(front.asked) / 50 < 1.5


async def test_without_a_replica_they_wait_in_serves_own_proxy(tmp_path: Path) -> None:
    fallback = Replica()
    async with fronted(tmp_path, [], fallback) as front:
        for model in (BASE, ADAPTERS[0], None):
            await front.ask(model)
    assert fallback.asked.total() == 3


@pytest.mark.parametrize("hot_share", [0.0, 0.6], ids=["zipf", "one adapter has 60%"])
async def test_no_replica_gets_much_more_than_its_share(front: Front, hot_share: float) -> None:
    dice = random.Random(0)
    weights = [1 / (rank + 1) for rank in range(len(ADAPTERS))]
    if hot_share:
        rest = sum(weights[1:])
        weights = [hot_share, *((1 - hot_share) * weight / rest for weight in weights[1:])]
    await front.load(dice.choices(ADAPTERS, weights, k=3000), clients=64)
    assert sum(front.asked) == 3000
    assert max(front.asked) / (3000 / REPLICAS) <= 1.3
    if hot_share:
        assert front.holders(ADAPTERS[0]) > 4
    # Rare ones stay together all the same: by chance alone each of these would be on almost every replica.
    rare = [front.holders(name) / min(REPLICAS, count) for name in ADAPTERS[8:] if (count := _count(front, name)) > 3]
    assert sum(rare) / len(rare) < 0.6


def _count(front: Front, name: str) -> int:
    return sum(replica.asked[name] for replica in front.replicas)
