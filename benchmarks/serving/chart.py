"""The results as a plot: a line for each figure with a target, its interval, and where the target is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

WIDTH, LINE, LABELS, MARGIN = 1000, 26, 420, 40
COLOURS = {True: "#1a7f37", False: "#cf222e", "undecided": "#9a6700"}
LONGEST = 2.0
"""Where the target stands is 1; what is twice as good, or better, ends at the right edge."""


def draw(results: dict[str, Any], file: Path) -> None:
    """Write a PNG of every row that has a target, each on the scale of its own target."""
    rows = [(name, row) for name, found in results.items() for row in found["rows"] if "met" in row]
    image = Image.new("RGB", (WIDTH, LINE * (len(rows) + 2)), "white")
    canvas = ImageDraw.Draw(image)
    canvas.text((10, 6), "each on the scale of its target (line); to the right is better", fill="black")
    target_x = _x(1.0)
    canvas.line((target_x, LINE, target_x, LINE * (len(rows) + 1)), fill="black", width=2)
    for index, (name, row) in enumerate(rows):
        y = LINE * (index + 1) + LINE // 2
        colour = COLOURS[row["met"]]
        canvas.text((10, y - 6), f"{name}: {row['load']}, {row['figure']}, {row['side']}/{row['beside']}", fill="black")
        low, value, high = sorted(_good(row, measured) for measured in (*row["interval"], row["value"]))
        canvas.line((_x(low), y, _x(high), y), fill=colour, width=3)
        canvas.ellipse((_x(value) - 5, y - 5, _x(value) + 5, y + 5), fill=colour)
    image.save(file)


def _good(row: dict[str, Any], measured: float) -> float:
    """Return the measured figure as a share of its target, more than 1 where it is better."""
    (kind, target), *_ = row["target"].items()
    return measured / target if kind == "at_least" else 2 - measured / target


def _x(share: float) -> float:
    return LABELS + (WIDTH - LABELS - MARGIN) * min(max(share, 0.0), LONGEST) / LONGEST
