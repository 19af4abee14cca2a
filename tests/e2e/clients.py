"""Clients that go on in threads until a test has seen enough."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def running(stop: threading.Event, work: Iterable[Callable[[], None]]) -> Iterator[None]:
    """Run each of `work` in a thread of its own; at the end set `stop`, at which it must return, and wait for it."""
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
