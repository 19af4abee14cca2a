"""How fast the planner plans, and how soon `kaito-ray plan` answers from a cold start.

    python benchmarks/estimator/plans.py [--json FILE]

Plans every preset on every GPU machine of the catalog, on one core, as often as fits --seconds; then starts the command
--runs times, each in a process of its own. Limits: 2000 plans a second, 1 second. The exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from kaito_ray.catalog.gpus import machines
from kaito_ray.catalog.load import presets
from kaito_ray.errors import UserError
from kaito_ray.estimator.plan import ServingOptions, plan_serving

LEAST_PLANS_PER_S = 2000
MOST_COLD_START_S = 1.0
COMMAND = (str(Path(sys.executable).with_name("kaito-ray")), "plan", "--gpu", "Standard_NC24ads_A100_v4", "--model")


def plans_per_second(seconds: float) -> tuple[float, int]:
    """Plans a second, and how many different pairs of model and machine they were made for."""
    gpus = [m for m in machines() if m.vendor == "nvidia" and (m.compute_capability or 0) >= 7.5]
    pairs = [(preset, machine) for preset in presets().values() for machine in gpus]
    made, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        for preset, machine in pairs:
            with suppress(UserError):
                plan_serving(preset, machine, ServingOptions())
            made += 1
    return made / spent, len(pairs)


def cold_starts(runs: int) -> list[float]:
    """Seconds from the command to its exit, each time in a new process; every third names a model by its hub id."""
    models = ("phi-4", "qwen3.6-27b", "meta-llama/Llama-3.1-8B-Instruct")
    taken = []
    for run in range(runs):
        start = time.perf_counter()
        subprocess.run([*COMMAND, models[run % len(models)]], check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to plan")
    parser.add_argument("--runs", type=int, default=12, help="cold starts")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rate, pairs = plans_per_second(args.seconds)
    starts = cold_starts(args.runs)
    found = {
        "plansPerSecond": round(rate),
        "pairs": pairs,
        "coldStartMedianS": round(statistics.median(starts), 3),
        "coldStartMaxS": round(max(starts), 3),
        "runs": args.runs,
        "cores": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), "pydantic": version("pydantic"), "pyyaml": version("pyyaml")},
        "date": time.strftime("%Y-%m-%d"),
    }
    print(
        f"plans a second, one core     {found['plansPerSecond']:>8}   (at least {LEAST_PLANS_PER_S}; {pairs} pairs)\n"
        f"kaito-ray plan, cold, median {found['coldStartMedianS']:>8} s (at most {MOST_COLD_START_S})\n"
        f"kaito-ray plan, cold, worst  {found['coldStartMaxS']:>8} s\n"
        f"{found['machine']}, load {found['load']}, {found['versions']}"
    )
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(rate < LEAST_PLANS_PER_S or statistics.median(starts) > MOST_COLD_START_S)


if __name__ == "__main__":
    sys.exit(main())
