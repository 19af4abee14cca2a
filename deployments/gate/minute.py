"""What was used in the last minute, to the second: never more than the limit within any 60 s."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_S: Final = 60.0


class Minute:
    """Amounts with the time at which each was used; those older than a minute are forgotten."""

    def __init__(self) -> None:
        self._uses: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, now: float, amount: int) -> None:
        """Note that `amount` was used at `now`, in seconds of a clock that only goes forward."""
        self._uses.append((now, amount))
        self._sum += amount

    def wait_s(self, now: float, limit: int) -> float:
        """Return in how many seconds less than `limit` will have been used; 0 where that is so now."""
        while self._uses and self._uses[0][0] <= now - WINDOW_S:
            self._sum -= self._uses.popleft()[1]
        left = self._sum
        if left < limit:
            return 0.0
        for then, amount in self._uses:
            left -= amount
            if left < limit:
                return then + WINDOW_S - now
        return WINDOW_S
