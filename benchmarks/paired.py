"""Two things measured in turns: what the pairs say about their median, and how sure that is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Literal

DRAWS = 10_000
Met = bool | Literal["undecided"]


def interval(pairs: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of the pairs' median, by bootstrap; of five pairs, that is their range."""
    draw = random.Random(0)
    medians = [median(draw.choices(pairs, k=len(pairs))) for _ in range(DRAWS)]
    cuts = quantiles(medians, n=40, method="inclusive")
    return cuts[0], cuts[-1]


def met(low: float, high: float, *, at_least: float | None = None, at_most: float | None = None) -> Met:
    """Return whether the interval lies on the good side of a target; "undecided" where it holds the target."""
    if at_least is not None:
        return True if low >= at_least else False if high < at_least else "undecided"
    assert at_most is not None
    return True if high <= at_most else False if low > at_most else "undecided"
