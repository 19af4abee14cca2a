"""ASGI middleware: asks the gate about each request, and answers those that may not go on.

Errors have the shape of OpenAI's, whose clients read `Retry-After` and come again by themselves.
"""

from __future__ import annotations

import time
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.answer import send_error
from deployments.gate.gate import Account, Gate, TooMany
from deployments.gate.tokens import METER, Meter

OPEN: Final = frozenset({"/health", "/metrics"})
"""Paths that need no key: what a kubelet and Prometheus ask."""

_NO_KEY: Final = "this endpoint wants an API key: send it as `Authorization: Bearer KEY`"
_WRONG_KEY: Final = "the API key is not known here, or no longer"
_POLICY_VIOLATION: Final = 1008


class GateMiddleware:
    """See the module."""

    def __init__(self, app: ASGIApp, *, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        kind = scope["type"]
        if kind not in {"http", "websocket"} or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        key = _key(scope)
        caller = self._gate.caller(key)
        if caller is None:
            await _unauthorized(scope, send, _NO_KEY if key is None else _WRONG_KEY)
        elif kind == "http" and scope["method"] != "POST":
            # Whatever makes the engine work is a POST.
            await self._app(scope, receive, send)
        elif (too_many := self._gate.enter(caller, time.monotonic())) is not None:
            await _too_many(scope, send, too_many)
        else:
            await self._run(caller, scope, receive, send)

    async def _run(self, caller: Account, scope: Scope, receive: Receive, send: Send) -> None:
        meter = Meter()
        before = METER.set(meter)
        try:
            await self._app(scope, receive, send)
        finally:
            METER.reset(before)
            self._gate.leave()
            self._gate.spend(caller, time.monotonic(), prompt=meter.prompt, completion=meter.completion)


def _key(scope: Scope) -> bytes | None:
    """Return the key that was sent: as a bearer token, or as clients of Anthropic's API send it."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else None
        if name == b"x-api-key":
            return bytes(value.strip())
    return None


async def _unauthorized(scope: Scope, send: Send, words: str) -> None:
    error = {"message": words, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    await _answer(scope, send, 401, error, (b"www-authenticate", b"Bearer"))


async def _too_many(scope: Scope, send: Send, too_many: TooMany) -> None:
    wait_s = too_many.retry_after_s
    words = (
        f"too many requests: inference.limits.{too_many.reason} is {too_many.limit}; try again in {wait_s} s"
        if too_many.reason != "maxQueued"
        else f"the queue is full: {too_many.limit} requests may wait; try again in {wait_s} s"
    )
    kind = "tokens" if too_many.reason == "tokensPerMinute" else "requests"
    error = {"message": words, "type": kind, "param": None, "code": "rate_limit_exceeded"}
    await _answer(scope, send, 429, error, (b"retry-after", str(wait_s).encode()))


async def _answer(scope: Scope, send: Send, status: int, error: dict[str, Any], header: tuple[bytes, bytes]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": error["message"]})
        return
    await send_error(send, status, error, header)
