"""The loop behind every watch, played with scripted pages and streams."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.informer import Expired, Page, follow

Step = Page | Exception | list[Any]


def item(name: str, version: int, uid: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid or name, "resourceVersion": str(version)}}


def event(type_: str, name: str, version: int) -> dict[str, Any]:
    return {"type": type_, "object": item(name, version)}


class Script:
    """Answers `page` and `stream` from two lists; the end of a list waits for ever."""

    def __init__(self, pages: Sequence[Page | Exception], streams: Sequence[list[Any] | Exception]) -> None:
        self.pages, self.streams = list(pages), list(streams)
        self.watched_from: list[str] = []
        self.slept: list[float] = []

    async def page(self) -> Page:
        if not self.pages:
            await asyncio.Event().wait()
        step = self.pages.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def stream(self, version: str) -> AsyncGenerator[dict[str, Any], None]:
        self.watched_from.append(version)
        if not self.streams:
            await asyncio.Event().wait()
        step = self.streams.pop(0)
        if isinstance(step, Exception):
            raise step
        for one in step:
            if isinstance(one, Exception):
                raise one
            yield one

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def told(self, count: int) -> list[str]:
        """Return the first `count` changes as text."""
        seen = []
        async with aclosing(follow(self.page, self.stream, what="things", sleep=self.sleep)) as changes:
            async for change in changes:
                name = change.object["metadata"]["name"] if change.object else ""
                seen.append(f"{change.type} {name}".strip())
                if len(seen) == count:
                    break
        return seen


async def test_everything_then_synced_then_changes() -> None:
    script = Script([Page([item("a", 1), item("b", 2)], "5")], [[event("MODIFIED", "a", 6), event("DELETED", "b", 7)]])
    assert await script.told(5) == ["ADDED a", "ADDED b", "SYNCED", "MODIFIED a", "DELETED b"]
    assert script.watched_from == ["5"]


async def test_a_stream_that_ends_goes_on_where_it_ended() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    script = Script([Page([], "5")], [[event("ADDED", "a", 6), bookmark], [event("MODIFIED", "a", 10)]])
    assert await script.told(3) == ["SYNCED", "ADDED a", "MODIFIED a"]
    assert script.watched_from == ["5", "9"]


async def test_after_410_only_the_differences_are_told() -> None:
    script = Script(
        [Page([item("same", 1), item("old", 1), item("gone", 1)], "5"), Page([item("same", 1), item("old", 8)], "9")],
        [Expired()],
    )
    told = await script.told(6)
    assert told == ["ADDED same", "ADDED old", "ADDED gone", "SYNCED", "DELETED gone", "MODIFIED old"]


async def test_410_inside_the_stream_lists_again() -> None:
    gone = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}
    script = Script([Page([], "5"), Page([item("a", 6)], "6")], [[gone]])
    assert await script.told(2) == ["SYNCED", "ADDED a"]


async def test_a_lost_connection_is_mended_with_growing_delays() -> None:
    lost = ApiUnavailable("gone")
    script = Script([Page([item("a", 1)], "5"), lost, lost, Page([item("a", 1), item("b", 2)], "7")], [[lost]])
    assert await script.told(3) == ["ADDED a", "SYNCED", "ADDED b"]
    assert len(script.slept) == 3
    assert script.slept[0] <= 0.2 < 0.4 <= 2 * script.slept[2]


async def test_an_object_that_was_replaced_while_away_is_two_changes() -> None:
    script = Script([Page([item("a", 1)], "5"), Page([item("a", 8, uid="new")], "9")], [Expired()])
    assert await script.told(4) == ["ADDED a", "SYNCED", "DELETED a", "ADDED a"]


async def test_an_unknown_kind_is_empty_and_looked_for_again() -> None:
    script = Script([Page([], None), Page([item("a", 1)], "2")], [])
    assert await script.told(2) == ["SYNCED", "ADDED a"]
    assert script.slept == [5.0]


async def test_a_server_that_hangs_up_at_once_is_not_asked_in_a_tight_loop() -> None:
    script = Script([Page([], "5")], [[], [], [event("ADDED", "a", 6)]])
    assert await script.told(2) == ["SYNCED", "ADDED a"]
    assert len(script.slept) == 2
