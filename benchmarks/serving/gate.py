"""What keys and limits cost alone: the same ASGI application with the gate and without, paired, at 500 requests/s.

    python benchmarks/serving/gate.py [--pairs 7] [--requests 2500] [--json FILE]

The application answers at once, in this process, so the difference is the gate's and nothing else's. Each request is
sent at its own time, whatever the one before it takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.gate.gate import Gate
from deployments.gate.middleware import GateMiddleware
from kaito_ray.api.workspace import Limits

RATE_PER_S = 500
KEYS = 100
FEWEST_PAIRS = 6
"""The range of six values holds the median with 1 - 2 / 2**6 = 97%; that of five, with 94%."""
TARGET_MS = {"p50": 0.2, "p95": 1.0}


async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def gated() -> ASGIApp:
    gate = Gate(batch=128)
    gate.configure(keys_required=True, limits=Limits(requests_per_minute=10**9, tokens_per_minute=10**9))
    gate.accept({f"key-{index}": f"sk-{index:064d}".encode() for index in range(KEYS)})
    return GateMiddleware(application, gate=gate)


async def latencies_ms(app: ASGIApp, requests: int) -> list[float]:
    took: list[float] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200

    async def one(index: int) -> None:
        key = f"Bearer sk-{index % KEYS:064d}".encode()
        headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"authorization", key)]
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
        started = time.perf_counter()
        await app(scope, receive, send)
        took.append((time.perf_counter() - started) * 1000)

    start, tasks = time.perf_counter(), []
    for index in range(requests):
        await asyncio.sleep(max(0.0, start + index / RATE_PER_S - time.perf_counter()))
        tasks.append(asyncio.create_task(one(index)))
    await asyncio.gather(*tasks)
    return took


def percentiles(values: list[float]) -> dict[str, float]:
    return {"p50": median(values), "p95": quantiles(values, n=20)[-1]}


def verdict(pairs: list[float], target: float) -> bool | str:
    """Return whether the 95% interval of the paired median lies on the good side: of six pairs or more, their range."""
    if len(pairs) < FEWEST_PAIRS or min(pairs) <= target < max(pairs):
        return "undecided"
    return max(pairs) <= target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--requests", type=int, default=2500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    added: dict[str, list[float]] = {"p50": [], "p95": []}
    for _ in range(options.pairs):
        without = percentiles(asyncio.run(latencies_ms(application, options.requests)))
        with_gate = percentiles(asyncio.run(latencies_ms(gated(), options.requests)))
        for name, pairs in added.items():
            pairs.append(with_gate[name] - without[name])
    rows = {
        name: {
            "added_ms": round(median(pairs), 4),
            "pairs_ms": [round(pair, 4) for pair in pairs],
            "worst_pair_ms": round(max(pairs), 4),
            "target_ms": TARGET_MS[name],
            "met": verdict(pairs, TARGET_MS[name]),
        }
        for name, pairs in added.items()
    }
    print("| figure | added, median of pairs | worst pair | target | met |\n|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['added_ms']} ms | {row['worst_pair_ms']} ms | {row['target_ms']} ms | {row['met']} |")
    if options.json:
        about = {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "versions": {"python": platform.python_version(), "starlette": version("starlette")},
        }
        found = {"about": about, "requests_per_s": RATE_PER_S, "pairs": options.pairs, **rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
