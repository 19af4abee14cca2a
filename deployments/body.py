"""A request goes on only when its body is here, whole, within bounds: slow and endless senders cost nobody else a place.

HAProxy waits for no body and bounds none, and vLLM reads whatever comes. So a body that is announced or turns out too
long is answered with 413, and one that dawdles with 408, before the request counts for any limit or reaches a route.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.answer import send_error

LIMIT_BYTES: Final = 32 * 2**20
"""Longer than any context as text; pictures and sound of a conversation fit too."""
PATIENCE_S: Final = 30.0
"""For the whole body: 32 MiB at 10 Mbit/s."""


class WholeBody:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int = LIMIT_BYTES, patience_s: float = PATIENCE_S) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Collect the body and run the request with it, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced_bytes(scope) > self._limit_bytes:
            await self._refuse_length(send)
            return
        try:
            async with asyncio.timeout(self._patience_s):
                body = await self._collect(receive)
        except TimeoutError:
            await _refuse(send, 408, f"the body did not arrive within {self._patience_s:g} s; send it at once")
            return
        if body is None:
            return
        if len(body) > self._limit_bytes:
            await self._refuse_length(send)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _collect(self, receive: Receive) -> bytes | None:
        """Return the body, or as much of it as is one too many; None where the client has left."""
        parts, size, more = [], 0, True
        while more and size <= self._limit_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        return b"".join(parts)

    async def _refuse_length(self, send: Send) -> None:
        await _refuse(send, 413, f"the body is longer than {self._limit_bytes} bytes; send less")


def _announced_bytes(scope: Scope) -> int:
    text = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    return int(text) if text.isdigit() else 0


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, and then what the server says: that the client left."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(send: Send, status: int, words: str) -> None:
    error = {"message": words, "type": "invalid_request_error", "param": None, "code": status}
    # What is left of the body is not read, so nothing else can come over this connection.
    await send_error(send, status, error, (b"connection", b"close"))
