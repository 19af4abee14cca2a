"""A new adapter, from `kubectl apply` to its first token, against starting a server with it.

    python -m benchmarks.serving.adapter [--pairs 5] [--json FILE]

Ours is a whole control plane of this machine (`kaito-ray quickstart`) that serves SmolLM2-135M; each time another adapter
of 40 MB, which no cache knows, is in a registry on loopback, and its Workspace is applied with `kubectl`. The other side is
what a server must do that takes adapters at its start only, as KAITO's: `vllm serve` with the adapter on disk already.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.paired import interval, met
from benchmarks.serving import sides
from benchmarks.serving.compare import about
from benchmarks.serving.workloads import PROMPT
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests import adapters
from tests.e2e.conftest import Plane
from tests.registry import RunningRegistry, oci_layout, running_registry
from tests.tiny_model import make_adapter

PRESET = "smollm2-135m-instruct"
RANK = 32
"""Of every linear layer in float32: 39 MB."""
LOOK_S = 0.02
PATIENCE_S = 120.0
MANIFEST: dict[str, Any] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "smollm2"},
    "resource": {"labelSelector": {"matchLabels": {"apps": "smollm2"}}},
}


def apply_to_first_token(plane: Plane, url: str, name: str, image: str) -> float:
    """Return the seconds from `kubectl apply` until the adapter has answered its first token."""
    inference = {"preset": {"name": PRESET}, "adapters": [{"source": {"name": name, "image": image}}]}
    manifest = json.dumps({**MANIFEST, "inference": inference})
    began = time.monotonic()
    plane.kubectl("apply", "-f", "-", stdin=manifest)
    return first_token(url, name) - began


def start_to_first_token(name: str, folder: Path, scratch: Path) -> float:
    """Return the seconds from starting a server until it has answered the adapter's first token."""
    engine = {"max_model_len": 2048, "dtype": "bfloat16", "kv_cache_memory_bytes": 2**28}
    lora = {"enable_lora": True, "max_lora_rank": 64}
    model = sides.Model(local_directory(find(PRESET).source), {**engine, **lora}, {name: folder})
    began = time.monotonic()
    with sides.plain(model, scratch) as url:
        return first_token(url, name) - began


def first_token(url: str, model: str) -> float:
    """Ask until the model exists and has answered one token; return when."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": 1}
    give_up = time.monotonic() + PATIENCE_S
    with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
        while (answer := client.post("/v1/completions", json=body)).status_code == 404:
            assert time.monotonic() < give_up, answer.text
            time.sleep(LOOK_S)
        answer.raise_for_status()
        return time.monotonic()


def push(registry: RunningRegistry, folder: Path) -> str:
    """Push the adapter in KAITO's layout; return its reference."""
    files = {f"data/{name}": (folder / name).read_bytes() for name in _FILES}
    blob = adapters.gzipped(adapters.tar(files))
    layout = oci_layout(folder.with_suffix(".layout"), [adapters.layer_of(blob)], blob)
    registry.push_with_skopeo(layout, f"bench/{folder.name}:1")
    return registry.image(f"bench/{folder.name}:1")


_FILES = ("adapter_config.json", "adapter_model.safetensors")


def measure(pairs: int, scratch: Path) -> list[tuple[float, float]]:
    """Return the seconds of ours and of a start, pair by pair."""
    base = local_directory(find(PRESET).source)
    measured = []
    with ExitStack() as stack:
        registry = stack.enter_context(running_registry(scratch / "registry"))
        plane = Plane(scratch / "home")
        stack.callback(plane.cli, "down")
        plane.cli("quickstart")
        url = plane.cli("endpoint", "smollm2").strip()
        for pair in range(pairs):
            folder = make_adapter(base, scratch / f"new-{pair}", seed=pair, rank=RANK)
            image = push(registry, folder)
            started = start_to_first_token(folder.name, folder, scratch)
            applied = apply_to_first_token(plane, url, folder.name, image)
            print(f"{folder.name}: applied {applied:.2f} s, started {started:.2f} s", flush=True)
            measured.append((applied, started))
    return measured


def judged(values: list[float], target: float) -> dict[str, Any]:
    """Return the median, its interval, and whether it is at most `target`."""
    low, high = interval(values)
    return {
        "value": round(median(values), 4),
        "interval": [round(low, 4), round(high, 4)],
        "pairs": [round(value, 4) for value in values],
        "target": {"at_most": target},
        "met": met(low, high, at_most=target),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = about()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        measured = measure(options.pairs, Path(scratch))
    rows = {
        "apply to first token, s": judged([applied for applied, _ in measured], 2.0),
        "share of a start": judged([applied / started for applied, started in measured], 1 / 20),
    }
    print("| figure | median | 95% interval | target | met |\n|---|---|---|---|---|")
    for name, row in rows.items():
        low, high = row["interval"]
        print(f"| {name} | {row['value']} | {low} to {high} | ≤ {row['target']['at_most']} | {row['met']} |")
    if options.json:
        options.json.write_text(json.dumps({"about": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
