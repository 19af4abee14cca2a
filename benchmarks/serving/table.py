"""The results as a table in Markdown."""

from __future__ import annotations

from typing import Any

_WORDS = {True: "yes", False: "no", "undecided": "undecided"}
_FIGURES = {"requests_per_s": "requests/s", "chunks_per_s": "chunks/s", "first_ms": "first token, p50"}


def markdown(results: dict[str, Any]) -> str:
    """Return one table for each workload, under what it ran on."""
    return "\n".join(line for name, found in results.items() for line in _workload(name, found)) + "\n"


def _workload(name: str, found: dict[str, Any]) -> list[str]:
    about = found["about"]
    versions = ", ".join(f"{package} {number}" for package, number in about["versions"].items())
    return [
        f"## {name}",
        "",
        f"{about['when']}, {about['cpus']} cores, load {about['load_before']} before; {versions}.",
        *(["", about["note"]] if "note" in about else []),
        "",
        "| load | figure | | median of pairs | 95% interval | measured | target | met |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(row) for row in found["rows"]),
        "",
    ]


def _row(row: dict[str, Any]) -> str:
    unit = " ms" if row["figure"] == "first_ms" else ""
    low, high = row["interval"]
    measured = " / ".join(f"{value:g}" for value in row["medians"].values())
    cells = [
        row["load"],
        _FIGURES[row["figure"]],
        f"{row['side']} {'-' if unit else '/'} {row['beside']}",
        f"{row['value']:.2f}{unit}",
        f"{low:.2f} to {high:.2f}",
        measured,
        _target(row, unit),
        _WORDS[row["met"]] if "met" in row else "",
    ]
    return f"| {' | '.join(cells)} |"


def _target(row: dict[str, Any], unit: str) -> str:
    target = row.get("target", {})
    return "".join(f"{'≥' if side == 'at_least' else '≤'} {value:g}{unit}" for side, value in target.items())
