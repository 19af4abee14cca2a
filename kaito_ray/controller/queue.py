"""One queue of Workspaces to look at, each in it at most once, each looked at by one worker at a time.

What is added while it is being looked at is looked at again afterwards; what failed comes back after a growing delay.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 60.0


class Key(NamedTuple):
    """Which Workspace."""

    namespace: str
    name: str


@dataclass
class WorkQueue:
    """See the module."""

    _ready: deque[Key] = field(default_factory=deque)
    _queued: set[Key] = field(default_factory=set)
    _busy: set[Key] = field(default_factory=set)
    _again: set[Key] = field(default_factory=set)
    _failures: dict[Key, int] = field(default_factory=dict)
    _timers: dict[Key, asyncio.TimerHandle] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: Key) -> None:
        """Have the Workspace looked at soon."""
        self._cancel(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._wake.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Have it looked at after that time, unless somebody adds it before."""
        self._cancel(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.add, key)

    async def get(self) -> Key:
        """Wait for a Workspace to look at; `done` must follow."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._queued.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: Key, *, failed: bool = False, again_s: float | None = None) -> None:
        """Say that a Workspace was looked at: it failed and is tried again later, or it is due after `again_s`."""
        self._busy.discard(key)
        if failed:
            self._failures[key] = self._failures.get(key, 0) + 1
        else:
            self._failures.pop(key, None)
        if key in self._again and not failed:
            self._again.discard(key)
            self.add(key)
        elif failed:
            self._again.discard(key)
            self.add_later(key, retry_s(self._failures[key]))
        elif again_s is not None:
            self.add_later(key, again_s)

    def _cancel(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()


def retry_s(failures: int) -> float:
    """Return the delay after that many failures in a row: doubled each time, up to a limit."""
    return min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 16), LAST_RETRY_S)
