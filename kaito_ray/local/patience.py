"""What to do about an object whose reconciling fails for a reason that nobody foresaw: try again, ever more seldom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kaito_ray.kube.cluster import Manifest

_FIRST_S: Final = 1.0
_LAST_S: Final = 60.0


@dataclass
class _Failure:
    words: str
    times: int
    not_before: float


@dataclass
class Patience:
    """The failures of objects, in memory: a new process tries at once."""

    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, _Failure] = field(default_factory=dict)

    def due(self, item: Manifest) -> bool:
        """Return whether it is time to look at the object."""
        failure = self._failures.get(item["metadata"]["uid"])
        return failure is None or self.clock() >= failure.not_before

    def well(self, item: Manifest) -> None:
        """Forget the object's failures: a pass over it ended well."""
        self._failures.pop(item["metadata"]["uid"], None)

    def failed(self, item: Manifest, error: Exception) -> bool:
        """Note a failure; return whether it is news: people are told the same words once."""
        uid, words = item["metadata"]["uid"], described(error)
        before = self._failures.get(uid)
        times = before.times + 1 if before else 1
        wait_s = min(_FIRST_S * 2.0 ** min(times - 1, 16), _LAST_S)
        self._failures[uid] = _Failure(words, times, self.clock() + wait_s)
        return before is None or before.words != words


def described(error: Exception) -> str:
    """Return an error that nobody foresaw, for people: its kind too, for its words alone may say little."""
    return f"{type(error).__name__}: {error}"
