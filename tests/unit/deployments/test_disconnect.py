import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.disconnect import CancellationIsDisconnect

HTTP: Scope = {"type": "http"}


async def send(_: Message) -> None: ...


async def never() -> Message:
    return await asyncio.Future()


class LikeVllm:
    """Works in a task of its own, and stops it only when it hears that the client has left."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.work: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.work = asyncio.create_task(asyncio.sleep(3600))
        self.started.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.work.cancel()


async def test_a_cancelled_request_hears_that_its_client_left() -> None:
    app = LikeVllm()
    request = asyncio.create_task(CancellationIsDisconnect(app)(HTTP, never, send))
    await app.started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert app.work is not None
    assert app.work.cancelled()


async def test_messages_and_answers_pass_unchanged() -> None:
    sent: list[Message] = []

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await send(await receive())

    async def body() -> Message:
        return {"type": "http.request", "body": b"x"}

    async def collect(message: Message) -> None:
        sent.append(message)

    await CancellationIsDisconnect(echo)(HTTP, body, collect)
    assert sent == [{"type": "http.request", "body": b"x"}]


async def test_an_error_of_the_application_stays_that_error() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("engine")

    with pytest.raises(RuntimeError, match="engine"):
        await CancellationIsDisconnect(fails)(HTTP, never, send)


async def test_what_is_not_http_is_left_alone() -> None:
    seen: list[Receive] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(receive)

    await CancellationIsDisconnect(app)({"type": "websocket"}, never, send)
    assert seen == [never]
