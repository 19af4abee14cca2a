"""Our tuning job against the plain TRL script, in paired runs that take turns.

    python benchmarks/tuning/compare.py [--pairs 3] [--json FILE] [--only overhead|profile|workers]

- overhead: same data, model and settings. Limits: at most 3 % slower, no more memory in the process that trains, the
  same final loss to 2 %.
- profile: our `recommended` profile against TRL's own defaults on the same data, for one epoch each. Limits: 1.5 times
  its loss-bearing tokens/s, at no higher held-out loss.
- workers: one data-parallel worker against two, on the same machine (on a CPU they share its cores).

Time is the training loop's own (`train_runtime`, less evaluations); the start of Python and Ray is in `wall_s` alone.
`cpu_s` is the processor time of the process that trains, from its start to its end: on a machine that others use as
well, it tells more than a clock. The exit code is 1 where a limit is missed.
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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from transformers import AutoTokenizer

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "tuning" / "data" / "atlantis.jsonl"
PRESET = "smollm2-135m-instruct"
SHARE = 0.85
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
SAME = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "max_length": 1024,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 0.1,
    "eval_strategy": "epoch",
    "seed": 7,
}
Figures = dict[str, float]


def ours(config: dict[str, Any], directory: Path, *, workers: int = 1) -> Figures:
    """Run our job once."""
    weights = str(local_directory(find(PRESET).source))
    args = {
        "workspace": "benchmark",
        "namespace": "default",
        "preset": PRESET,
        "source": {"localDir": weights},
        "method": "qlora",
        "device": "cpu",
        "workers": workers,
        "trainingConfig": config,
        "input": {"directory": str(DATA.parent)},
        "output": {"directory": str(directory / "out")},
        "workDirectory": str(directory / "work"),
    }
    file = directory / "args.json"
    file.write_text(json.dumps(args))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    began = time.monotonic()
    memory = _watched([sys.executable, "-m", "tuning.main", str(file)], environment, "RayTrainWorker")
    wall_s = time.monotonic() - began
    history = json.loads((next((directory / "work").iterdir()) / "adapter" / "history.json").read_text())
    return {**_figures(history), **memory, "wall_s": wall_s}


def plain(sft: dict[str, Any], lora: dict[str, Any], directory: Path) -> Figures:
    """Run the plain script once, on the very examples that our job splits off."""
    for name in ("train", "held-out"):
        (directory / name).write_text("\n".join(map(json.dumps, _split()[name])))
    settings = {
        "model": str(local_directory(find(PRESET).source)),
        "train": str(directory / "train"),
        "held_out": str(directory / "held-out"),
        "quantize": True,
        "lora": lora,
        "sft": {"save_strategy": "steps", "save_total_limit": 1, **sft},
    }
    file = directory / "settings.json"
    file.write_text(json.dumps(settings))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("plain_trl.py")), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    wall_s = time.monotonic() - began
    memory = {"peak_gib": result["peak_bytes"] / 2**30, "cpu_s": result["cpu_s"]}
    return {**_figures(result["history"]), **memory, "wall_s": wall_s}


def _split() -> dict[str, list[dict[str, Any]]]:
    """Return what `tuning.data` makes of the file."""
    from tuning.config import DatasetConfig
    from tuning.data import prepare

    data = prepare(DATA.parent, DatasetConfig(train_test_split=SHARE), chat=True)
    return {"train": data.train, "held-out": data.held_out}


def loss_bearing_tokens() -> int:
    """Return the tokens of one epoch that carry loss: those of the answers, with the end of the turn."""
    tokenizer = AutoTokenizer.from_pretrained(local_directory(find(PRESET).source))

    def length(messages: list[dict[str, str]], *, asks: bool) -> int:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        return len(tokenizer(text)["input_ids"])

    return sum(
        length([*e["prompt"], *e["completion"]], asks=False) - length(e["prompt"], asks=True) for e in _split()["train"]
    )


def _figures(history: list[dict[str, Any]]) -> Figures:
    evaluations = [entry for entry in history if "eval_loss" in entry]
    spent = next(entry["train_runtime"] for entry in history if "train_runtime" in entry)
    return {
        "loop_s": spent - sum(entry["eval_runtime"] for entry in evaluations),
        "steps": history[-1]["step"],
        "loss": next(entry["train_loss"] for entry in history if "train_loss" in entry),
        "eval_loss": evaluations[-1]["eval_loss"],
    }


def _watched(command: list[str], environment: dict[str, str], worker: str) -> Figures:
    """Run a command to its end; return the highest memory of the process whose title holds `worker`, and of all."""
    peaks = {"peak_gib": 0.0, "cpu_s": 0.0, "all_gib": 0.0}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.25):
                total = 0
                for child in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                    try:
                        total += child.memory_info().rss
                        if worker in " ".join(child.cmdline()):
                            status = Path(f"/proc/{child.pid}/status").read_text()
                            kib = int(status.split("VmHWM:")[1].split()[0])
                            times = child.cpu_times()
                            peaks["cpu_s"] = max(peaks["cpu_s"], times.user + times.system)
                            peaks["peak_gib"] = max(peaks["peak_gib"], kib / 2**20)
                    except (psutil.Error, OSError, IndexError):
                        continue
                peaks["all_gib"] = max(peaks["all_gib"], total / 2**30)

        def watch_while_it_runs() -> None:
            try:
                watch()
            except psutil.NoSuchProcess:
                return

        watcher = threading.Thread(target=watch_while_it_runs, daemon=True)
        watcher.start()
        code = process.wait()
        ended.set()
        watcher.join()
        if code:
            output.seek(0)
            raise SystemExit(output.read()[-3000:])
    return peaks


def paired(pairs: int, sides: dict[str, Callable[[Path], Figures]]) -> dict[str, list[Figures]]:
    """Run each side once a pair; who goes first alternates."""
    results: dict[str, list[Figures]] = {name: [] for name in sides}
    for pair in range(pairs):
        order = list(sides) if pair % 2 == 0 else list(reversed(sides))
        for name in order:
            with tempfile.TemporaryDirectory() as scratch:
                results[name].append(sides[name](Path(scratch)))
            print(f"pair {pair + 1} {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return results


def ratios(results: dict[str, list[Figures]], above: str, below: str, figure: str) -> list[float]:
    return [a[figure] / b[figure] for a, b in zip(results[above], results[below], strict=True)]


def overhead(pairs: int) -> dict[str, Any]:
    config = {
        "LoraConfig": LORA,
        "TrainingArguments": SAME,
        "DatasetConfig": {"train_test_split": SHARE},
    }
    results = paired(
        pairs,
        {"ours": lambda d: ours(config, d), "plain": lambda d: plain({**SAME, "eval_on_start": True}, LORA, d)},
    )
    time_ratio = statistics.median(ratios(results, "ours", "plain", "loop_s"))
    memory_ratio = statistics.median(ratios(results, "ours", "plain", "peak_gib"))
    loss_ratio = statistics.median(ratios(results, "ours", "plain", "loss"))
    cpu_ratio = statistics.median(ratios(results, "ours", "plain", "cpu_s"))
    summary = {"time": time_ratio, "cpu": cpu_ratio, "memory": memory_ratio, "loss": loss_ratio}
    met = {"time": time_ratio <= 1.03, "memory": memory_ratio <= 1.0, "loss": abs(loss_ratio - 1) <= 0.02}
    return {"ratios": summary, "met": met, "runs": results}


def profile(pairs: int) -> dict[str, Any]:
    config = {
        "profile": "recommended",
        "TrainingArguments": {"num_train_epochs": 1, "learning_rate": 1e-3},
        "DatasetConfig": {"train_test_split": SHARE},
    }
    defaults = {"num_train_epochs": 1, "eval_strategy": "epoch", "eval_on_start": True}
    results = paired(pairs, {"ours": lambda d: ours(config, d), "plain": lambda d: plain(defaults, {}, d)})
    tokens = loss_bearing_tokens()
    for side in results.values():
        for run in side:
            run["useful_tokens_per_s"] = tokens / run["loop_s"]
    speed = statistics.median(ratios(results, "ours", "plain", "useful_tokens_per_s"))
    quality = statistics.median(ratios(results, "ours", "plain", "eval_loss"))
    summary = {"useful tokens/s": speed, "held-out loss": quality, "loss-bearing tokens": tokens}
    met = {"useful tokens/s": speed >= 1.5, "held-out loss": quality <= 1.0}
    return {"ratios": summary, "met": met, "runs": results}


def workers(pairs: int) -> dict[str, Any]:
    config = {"LoraConfig": LORA, "TrainingArguments": SAME, "DatasetConfig": {"train_test_split": SHARE}}
    results = paired(pairs, {"two": lambda d: ours(config, d, workers=2), "one": lambda d: ours(config, d)})
    summary = {figure: statistics.median(ratios(results, "two", "one", figure)) for figure in ("loop_s", "all_gib")}
    return {"ratios": summary, "met": {}, "runs": results}


PARTS = {"overhead": overhead, "profile": profile, "workers": workers}


def table(results: dict[str, Any]) -> str:
    lines = []
    for part, result in results.items():
        figures = list(dict.fromkeys(name for side in result["runs"].values() for run in side for name in run))
        lines += ["", f"## {part}", "", f"| | {' | '.join(figures)} |", "|---|" + "---|" * len(figures)]
        for side, runs in result["runs"].items():
            cells = []
            for figure in figures:
                values = [run[figure] for run in runs if figure in run]
                spread = f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else ""
                cells.append(spread)
            lines.append(f"| {side} | {' | '.join(cells)} |")
        words = ", ".join(f"{name} {value:.3g}" for name, value in result["ratios"].items())
        lines += ["", f"First against second, median of the pairs: {words}."]
        lines += (
            [f"Met: {', '.join(f'{name} {held}' for name, held in result['met'].items())}."] if result["met"] else []
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=PARTS, action="append")
    given = parser.parse_args()
    results = {name: PARTS[name](given.pairs) for name in given.only or PARTS}
    print(table(results))
    if given.json:
        libraries = {name: version(name) for name in ("ray", "torch", "transformers", "trl", "peft", "bitsandbytes")}
        about = {
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[2],
            "versions": libraries,
        }
        given.json.write_text(json.dumps({"about": about, **results}, indent=1))
    return 0 if all(held for part in results.values() for held in part["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
