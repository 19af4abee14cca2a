"""Memory of the embedded control plane at rest: API server, operator and machine agent, Ray and the engine apart.

    python benchmarks/local/memory.py [--rounds 3] [--settle-s 30] [--json FILE]

Each round starts a control plane in a home of its own, lets it settle, and reads RSS (what `ps` says, shared libraries
counted in each process), PSS (shared pages divided among those who share them) and USS. The target, at most 250 MB RSS
in all, is met when the largest round meets it. The exit code is 1 where it is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from kaito_ray.local import up

LIMIT_MB = 250.0
PARTS = ("apiserver", "operator", "machine")
KINDS = ("rss", "pss", "uss")


def one_round(settle_s: float) -> dict[str, dict[str, float]]:
    """Return MB by process and kind."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        up.up(home, detach=True)
        try:
            time.sleep(settle_s)
            pids = {part.name: part.pid for part in up.state(home).parts}
            return {name: _megabytes(pids[name]) for name in PARTS}
        finally:
            up.down(home)


def _megabytes(pid: int | None) -> dict[str, float]:
    assert pid is not None, "it is being started again; see its log"
    used = psutil.Process(pid).memory_full_info()
    return {kind: getattr(used, kind) / 1e6 for kind in KINDS}


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the figures with their spread, and what they were taken on."""
    totals = [{kind: sum(part[kind] for part in found.values()) for kind in KINDS} for found in rounds]
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("kaito-ray", "kopf", "kubernetes", "aiohttp", "pydantic")},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "rounds": len(rounds),
        "megabytes": {
            name: {kind: _spread([found[name][kind] for found in rounds]) for kind in KINDS} for name in PARTS
        },
        "total": {kind: _spread([total[kind] for total in totals]) for kind in KINDS},
        "limit_rss_mb": LIMIT_MB,
        "met": max(total["rss"] for total in totals) <= LIMIT_MB,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "min": round(min(values), 1), "max": round(max(values), 1)}


def table(found: dict[str, Any]) -> str:
    """Return it in Markdown: the median, and the range in brackets."""
    lines = ["| Process | RSS, MB | PSS, MB | USS, MB |", "|---|---|---|---|"]
    for name, kinds in (*found["megabytes"].items(), ("in all", found["total"])):
        cells = [f"{kinds[kind]['median']} ({kinds[kind]['min']}-{kinds[kind]['max']})" for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Limit: {LIMIT_MB:.0f} MB RSS; met: {str(found['met']).lower()}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settle-s", type=float, default=30.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = summary([one_round(given.settle_s) for _ in range(given.rounds)])
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
