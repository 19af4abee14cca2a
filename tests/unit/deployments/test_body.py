"""Bodies that are too long, too slow, or never end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from deployments.body import WholeBody


def part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Client:
    """Sends `messages`, then nothing, and keeps what it is answered."""

    def __init__(self, messages: Iterable[dict[str, Any]], **headers: str) -> None:
        self._messages = iter(messages)
        self.taken = 0
        self.answers: list[dict[str, Any]] = []
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope = {"type": "http", "headers": named}

    async def receive(self) -> dict[str, Any]:
        for message in self._messages:
            self.taken += 1
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Any) -> None:
        self.answers.append(message)

    @property
    def status(self) -> int:
        return self.answers[0]["status"]


class App:
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.received = [await receive(), await receive()]


async def sent(client: Client) -> App:
    app = App()
    await WholeBody(app, limit_bytes=10, patience_s=0.05)(client.scope, client.receive, client.send)
    return app


async def test_a_body_in_pieces_arrives_whole_and_a_client_that_leaves_is_still_told() -> None:
    left = {"type": "http.disconnect"}
    app = await sent(Client([part(b"01234", more=True), part(b"56789", more=False), left]))
    assert app.received == [part(b"0123456789", more=False), left]


async def test_a_body_that_is_announced_too_long_is_refused_unread() -> None:
    client = Client([part(b"0", more=True)], content_length="11")
    assert (await sent(client)).received == []
    assert (client.status, client.taken) == (413, 0)
    assert "longer than 10 bytes" in json.loads(client.answers[1]["body"])["error"]["message"]


async def test_a_body_without_end_is_refused_at_the_limit() -> None:
    client = Client(part(b"0123", more=True) for _ in range(1000))
    assert (await sent(client)).received == []
    assert (client.status, client.taken) == (413, 3)


@pytest.mark.parametrize("messages", [[], [part(b"{", more=True)]], ids=["nothing", "half"])
async def test_a_body_that_does_not_come_is_given_up(messages: list[dict[str, Any]]) -> None:
    client = Client(messages)
    assert (await sent(client)).received == []
    assert client.status == 408


async def test_a_client_that_leaves_amid_its_body_is_forgotten() -> None:
    client = Client([part(b"{", more=True), {"type": "http.disconnect"}])
    assert (await sent(client)).received == []
    assert client.answers == []
