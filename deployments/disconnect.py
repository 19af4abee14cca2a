"""A client that leaves stops its generation, on every route.

Serve cancels the task of a request whose client has left. vLLM's routes wait for ASGI's `http.disconnect` instead: the
handler runs in a task of its own, which the cancellation does not reach, and the engine would go on to the last token.
So the one is turned into the other here.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_GRACE_S: Final = 10.0
"""For a handler to end after its client has left, before it is cancelled like any task."""


class CancellationIsDisconnect:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; when this is cancelled, the application receives `http.disconnect`, and ends by itself."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = asyncio.Event()
        request = asyncio.ensure_future(self._app(scope, _until(left, receive), send))
        try:
            await asyncio.shield(request)
        except asyncio.CancelledError:
            left.set()
            await asyncio.wait([request], timeout=_GRACE_S)
            request.cancel()
            raise


def _until(left: asyncio.Event, receive: Receive) -> Receive:
    async def receive_or_left() -> Message:
        message = asyncio.ensure_future(receive())
        gone = asyncio.ensure_future(left.wait())
        try:
            await asyncio.wait([message, gone], return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            gone.cancel()

    return receive_or_left
