"""How long ago something was noted, whatever somebody does to the clock meanwhile.

Objects carry dates, and a date says little about durations: a laptop that wakes up, or a first contact with a time
server, moves the clock by hours. So a date is believed once, when it is first seen; from then on a clock counts that
nobody can set. A new process begins anew from the date.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kaito_ray.local.objects import seconds_since


@dataclass
class Stopwatches:
    """One for each thing, by name."""

    clock: Callable[[], float] = time.monotonic
    _running: dict[str, tuple[str, float]] = field(default_factory=dict)

    def seconds_since(self, then: str, *, what: str) -> float:
        """Return the seconds since a time that Kubernetes wrote for `what`; never negative."""
        noted, began = self._running.get(what, ("", 0.0))
        if noted != then:
            began = self.clock() - max(seconds_since(then), 0.0)
            self._running[what] = then, began
        return self.clock() - began

    def forget(self, what: str) -> None:
        """Stop counting."""
        self._running.pop(what, None)
