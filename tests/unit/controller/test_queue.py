"""The queue of Workspaces."""

import asyncio

import pytest

from kaito_ray.controller.queue import Key, WorkQueue, retry_s

A, B = Key("n", "a"), Key("n", "b")


async def test_what_is_added_twice_is_looked_at_once() -> None:
    queue = WorkQueue()
    for key in (A, A, B):
        queue.add(key)
    assert [await queue.get(), await queue.get()] == [A, B]
    queue.done(A)
    queue.done(B)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


async def test_what_is_added_while_it_is_looked_at_is_looked_at_again_and_not_by_two_at_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    await queue.get()
    queue.add(A)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)
    queue.done(A)
    assert await queue.get() == A


async def test_news_come_before_a_delay() -> None:
    queue = WorkQueue()
    queue.add_later(A, 3600)
    queue.add(A)
    assert await queue.get() == A


async def test_what_is_due_later_comes_by_itself() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.done(await queue.get(), again_s=0.0)
    assert await asyncio.wait_for(queue.get(), 1) == A


async def test_a_failure_comes_back_later_even_if_it_was_added_meanwhile() -> None:
    queue = WorkQueue()
    queue.add(A)
    await queue.get()
    queue.add(A)
    queue.done(A, failed=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.01)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.1), (2, 0.2), (4, 0.8), (100, 60.0)])
def test_the_delay_doubles_up_to_a_limit(failures: int, seconds: float) -> None:
    assert retry_s(failures) == seconds
