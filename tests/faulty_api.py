"""A reverse proxy in front of the embedded API server, which answers as badly as a test wants.

It speaks HTTPS with the server's own certificate, so whoever uses its kubeconfig cannot tell the difference.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.apiserver import ApiServer

Fault = Callable[[web.Request], Awaitable[web.Response | None]]
"""What happens to a request instead of its being forwarded; None: nothing happens to it."""


@dataclass
class FaultyApi:
    """See the module."""

    kubeconfig: Path
    fault: Fault | None = None
    cut_watches_after_bytes: int | None = None
    """Where each watch ends, in the middle of a line if need be."""
    after_write: Callable[[web.Request], None] | None = None
    """Called when a write has taken effect, before it is answered."""
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Writes that reached the API server, by method and path."""
    _port: int = 0
    _session: aiohttp.ClientSession | None = None

    @classmethod
    @asynccontextmanager
    async def before(cls, server: ApiServer) -> AsyncIterator[FaultyApi]:
        """Listen in front of that server."""
        port = int((server.home / "apiserver.port").read_text())
        pki = server.home / "pki"
        trust = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        proxy = cls(server.home / "faulty.kubeconfig", _port=port)
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", proxy._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ours.load_cert_chain(pki / "server.crt", pki / "server.key")
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ours)
        await site.start()
        _, listening = runner.addresses[0][:2]
        proxy.kubeconfig.write_text(server.kubeconfig.read_text().replace(f":{port}", f":{listening}"))
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust, limit=0), timeout=timeout, auto_decompress=False
        ) as proxy._session:
            try:
                yield proxy
            finally:
                await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.fault is not None and (answer := await self.fault(request)) is not None:
            return answer
        assert self._session is not None
        url = f"https://127.0.0.1:{self._port}{request.raw_path}"
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
        async with self._session.request(
            request.method, url, headers=headers, data=await request.read() or None, skip_auto_headers=("Content-Type",)
        ) as told:
            if request.method != "GET":
                self.writes[request.method, request.path] += 1
                if self.after_write:
                    self.after_write(request)
            response = web.StreamResponse(status=told.status)
            for name in ("Content-Type", "Content-Encoding", "Warning"):
                if name in told.headers:
                    response.headers[name] = told.headers[name]
            await response.prepare(request)
            cut = self.cut_watches_after_bytes if "watch" in request.query else None
            with suppress(ConnectionError):  # whoever asked is gone
                async for chunk in told.content.iter_any():
                    if cut is not None and len(chunk) >= cut:
                        await response.write(chunk[:cut])
                        return response  # in good order, as a proxy does whose upstream went away
                    cut = None if cut is None else cut - len(chunk)
                    await response.write(chunk)
            return response


def status(code: int, **headers: str) -> web.Response:
    """Return an answer without a body of Kubernetes' kind, as a load balancer in front of it gives."""
    return web.Response(status=code, text="the server is not well", headers=headers)


def one_in(many: int, code: int) -> Fault:
    """Answer one in so many requests with that code, by chance: a count would keep step with whoever repeats his."""
    chance = random.Random(many)

    async def fault(_: web.Request) -> web.Response | None:
        return None if chance.randrange(many) else status(code)

    return fault


def conflicts() -> Fault:
    """Refuse each write once, as if somebody else had just written."""
    seen: set[tuple[str, str]] = set()

    async def fault(request: web.Request) -> web.Response | None:
        if request.method not in ("PUT", "POST") or "/leases" in request.path:
            return None
        key = (request.method, request.path)
        if key in seen:
            seen.discard(key)
            return None
        seen.add(key)
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409}
        return web.json_response({**body, "message": "the object has been modified"}, status=409)

    return fault


def expired_watches() -> Fault:
    """Answer every second watch 410."""
    asked = count(1)

    async def fault(request: web.Request) -> web.Response | None:
        if "watch" not in request.query or next(asked) % 2:
            return None
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}
        return web.json_response({**body, "message": "too old resource version"}, status=410)

    return fault


def slow(seconds: float) -> Fault:
    """Take so long for each answer."""

    async def fault(request: web.Request) -> web.Response | None:
        await asyncio.sleep(seconds)
        return None

    return fault


@dataclass
class Impatience:
    """Asks to be left alone once, and notes who comes too early."""

    after_s: float
    asked_at: float = 0.0
    early: list[str] = field(default_factory=list)

    async def __call__(self, request: web.Request) -> web.Response | None:
        """As `Fault`, for writes of Workspaces' children."""
        if request.method not in ("PUT", "POST") or "/leases" in request.path:
            return None
        if not self.asked_at:
            self.asked_at = time.monotonic()
            return status(429, **{"Retry-After": str(int(self.after_s))})
        if time.monotonic() - self.asked_at < self.after_s:
            self.early.append(request.path)
        return None
