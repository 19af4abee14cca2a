"""A curve in a terminal, in braille: two by four dots a character. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

Point = tuple[int, float]
"""Step and value."""

_DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of a dot by row and column. Source: Unicode, Braille Patterns."""
_BLANK: Final = 0x2800


def draw(points: Sequence[Point], *, steps: int, width: int, height: int) -> list[str]:
    """Return `height` lines, at most `width` wide, with the curve of `points` on an axis from step 0 to `steps`.

    The scale is from 0 to the highest value, and stands at the left of the first and last line.
    """
    highest = max((value for _, value in points), default=1.0) or 1.0
    scale = [f"{highest:.3g}", "0"]
    margin = max(map(len, scale)) + 1
    columns = max(1, width - margin)
    cells = [[0] * columns for _ in range(height)]
    for x, y in _dots(points, steps=max(1, steps), highest=highest, width=2 * columns, height=4 * height):
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    labels = {0: scale[0], height - 1: scale[1]}
    return [
        labels.get(row, "").rjust(margin - 1) + "│" + "".join(chr(_BLANK + cell) for cell in line)
        for row, line in enumerate(cells)
    ]


def _dots(points: Sequence[Point], *, steps: int, highest: float, width: int, height: int) -> set[tuple[int, int]]:
    """Return the dots of the curve, from the upper left; between two points every column has one."""
    placed = [
        (round((width - 1) * min(step, steps) / steps), round((height - 1) * (1 - max(0.0, value) / highest)))
        for step, value in points
    ]
    found = set(placed)
    for (x0, y0), (x1, y1) in pairwise(placed):
        found |= {(x, round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))) for x in range(x0, x1)}
    return found
