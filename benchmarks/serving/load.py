"""Closed-loop load: so many clients, each with a connection of its own, each asking again as soon as it is answered.

The client shares the machine with what it measures, so it is light: uvloop and httptools, the loop and parser of the
servers themselves, and of an answer it only counts the events.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Load:
    """What is asked of a server."""

    url: str
    bodies: tuple[dict[str, Any], ...]
    """Requests to take turns with."""
    clients: int
    requests: int
    """In all."""
    key: str = ""


@dataclass
class Answered:
    """What came back. Whatever was not a whole answer with status 200 raised instead."""

    wall_s: float = 0.0
    first_s: list[float] = field(default_factory=list)
    """Of each request, from its sending to its first body byte: the first token, where it streams."""
    events: int = 0
    """Server-sent events, the last one, `[DONE]`, among them; 0 where nothing streams."""

    @property
    def requests_per_s(self) -> float:
        """Whole answers."""
        return len(self.first_s) / self.wall_s

    @property
    def chunks_per_s(self) -> float:
        """Streamed events with tokens in them."""
        return (self.events - len(self.first_s)) / self.wall_s

    @property
    def first_ms(self) -> float:
        """Median."""
        return median(self.first_s) * 1000


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self, answered: Answered) -> None:
        self._answered = answered
        self._whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        self.is_kept = True
        """False once the server has said that it closes the connection after its answer."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def ask(self, request: bytes) -> None:
        self._whole = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._has_begun, self._lines = False, 0
        self._sent = time.perf_counter()
        self._transport.write(request)
        await asyncio.wait_for(self._whole, PATIENCE_S)
        self._answered.events += self._lines // 2

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._whole.done():
            self._whole.set_exception(exc or ConnectionError("the server closed the connection within an answer"))

    def on_body(self, body: bytes) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._answered.first_s.append(time.perf_counter() - self._sent)
            if (status := self._parser.get_status_code()) != 200:
                self._whole.set_exception(AssertionError(f"{status}: {body[:500]!r}"))
        # An event is one line of JSON and an empty one, however the pieces were cut.
        self._lines += body.count(b"\n")

    def on_message_complete(self) -> None:
        self.is_kept = self._parser.should_keep_alive()
        if not self._whole.done():
            self._whole.set_result(None)


def run(load: Load) -> Answered:
    """Send the load and wait for every answer."""
    return uvloop.run(_run(load))


async def _run(load: Load) -> Answered:
    answered = Answered()
    place = urlsplit(load.url)
    requests = [_http(load, place.netloc, body) for body in load.bodies]
    turns = iter(range(load.requests))
    loop = asyncio.get_running_loop()

    async def connect() -> _Connection:
        return (await loop.create_connection(lambda: _Connection(answered), place.hostname, place.port))[1]

    connections = [await connect() for _ in range(load.clients)]

    async def client(index: int) -> None:
        for turn in turns:
            if not connections[index].is_kept:
                connections[index].close()
                connections[index] = await connect()
            await connections[index].ask(requests[turn % len(requests)])

    began = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(load.clients):
                group.create_task(client(index))
    finally:
        for connection in connections:
            connection.close()
    answered.wall_s = time.perf_counter() - began
    return answered


def _http(load: Load, host: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = [
        "POST /v1/completions HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        f"content-length: {len(content)}",
        *([f"authorization: Bearer {load.key}"] if load.key else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + content
