"""One Workspace tunes, a second one serves what it made: the demo's own steps, on one machine, with a lost head."""

import importlib.util
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from kaito_ray.api.tuning_args import TuningProgress, progress
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.e2e.cli.test_dashboard import PATIENCE_MS, page, sign_in  # noqa: F401 - a fixture
from tests.e2e.conftest import KAITO_RAY, Plane

pytestmark = [
    pytest.mark.engine,
    # Three minutes on two idle cores.
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

DEMO = Path(__file__).parents[3] / "examples" / "tuning" / "demo.py"
TUNING, SERVING = "tune-smollm2", "smollm2-tuned"
TOLERANCE = 2e-5
"""Of a log-probability: vLLM and peft, both in float32, on the same adapter; 2e-7 was measured."""


def load_demo() -> Any:
    spec = importlib.util.spec_from_file_location("tuning_demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


demo = load_demo()


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    local_directory(find(demo.BASE).source)
    monkeypatch.setenv("KAITO_RAY_DATA_ALLOW", "127.0.0.1")
    running = Plane(tmp_path / "home")
    try:
        running.cli("up", "--detach")
        yield running
    finally:
        running.cli("down")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Data and registry, served as the demo serves them."""
    with demo.data_server(tmp_path) as data, demo.registry(tmp_path) as registry:
        yield data, registry


def until(plane: Plane, name: str, holds: Callable[[dict[str, Any]], bool], *, timeout_s: float) -> dict[str, Any]:
    """Return the Workspace's status once `holds` does."""
    end = time.monotonic() + timeout_s
    while True:
        status: dict[str, Any] = plane.get("workspace", name).get("status") or {}
        if holds(status):
            return status
        assert status.get("state") != "Failed", json.dumps(status, indent=1)
        assert time.monotonic() < end, json.dumps(status, indent=1)
        time.sleep(1)


def test_what_one_workspace_learns_another_one_serves(
    plane: Plane,
    hosts: tuple[str, str],
    page: Page,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    data, registry = hosts
    demo.apply_tuning(plane, data_host=data, registry_host=registry)
    until(plane, TUNING, lambda s: bool((s.get("tuning") or {}).get("checkpoint")), timeout_s=300)

    # While it runs: the dashboard shows it, Prometheus has its numbers, and its log is followed to its end.
    with followed(plane, tmp_path / "job.log") as log:
        token = plane.cli("dashboard", TUNING, "--token").strip()
        address = json.loads(plane.cli("dashboard", TUNING, "--output", "json"))["url"]
        page.goto(f"{address}/#/jobs")
        sign_in(page, token)
        job = page.get_by_role("row").filter(has_text="python -m tuning.main").first
        expect(job).to_contain_text("RUNNING", timeout=PATIENCE_MS)
        shown = gauges(plane)
        assert shown["kaito_tuning_steps"] > shown["kaito_tuning_step"] > 0
        assert shown["kaito_tuning_tokens_per_second"] > 0

        # The head is lost, as with a spot machine: the job goes on from its last checkpoint.
        head = head_pod(plane)
        plane.kubectl("delete", "pod", head["metadata"]["name"], "--wait=false")
        drawn = watched_on_a_terminal(plane)
        assert log.wait(timeout=60) == 0, "it ends with the job"
    assert head_pod(plane)["metadata"]["uid"] != head["metadata"]["uid"]
    assert set("\u2801\u2802\u2804\u2808\u2810\u2820\u2840\u2880") & set(drawn), "a curve, in braille"
    assert "Running step" in drawn
    assert "held-out loss by step" in drawn
    assert "\x1b[1A" in drawn, "redrawn in place"
    done = until(plane, TUNING, lambda s: s.get("state") == "Succeeded", timeout_s=60)
    assert done["tuning"]["output"].startswith(f"{registry}/atlantis@sha256:")
    assert plane.get("nodepools")["items"] == [], "the machine is given back"

    # Beside the adapter: the curve without a gap, and a held-out loss well below the base model's.
    (adapter,) = (plane.home / "claims").rglob("adapter")
    report = json.loads((adapter / "report.json").read_text())
    assert [step for step, _ in report["loss"]] == list(range(1, done["tuning"]["steps"] + 1))
    (first_step, base_loss), (_, tuned_loss) = report["evalLoss"][0], report["evalLoss"][-1]
    assert first_step == 0
    assert tuned_loss < 0.8 * base_loss
    assert (adapter / "loss.png").stat().st_size > 1000
    told = list(progress((tmp_path / "job.log").read_text().splitlines()))
    assert steps_done_twice(told) < report["loss"][-1][0] / 2, "it did not begin anew"

    # In float32, for what is served to be compared with peft; the demo serves in the model's own type.
    config = {"inference_config.yaml": json.dumps({"vllm": {"dtype": "float32"}})}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "float32"}, "data": config}
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(config_map))
    serving = json.loads(plane.kubectl("create", f"--filename={demo.SERVING}", "--dry-run=client", "--output=json"))
    serving["inference"]["config"] = "float32"
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(serving))
    endpoint = demo.wait_for_adapter(plane)
    (question, taught), (known, kept) = demo.TAUGHT, demo.KEPT
    assert taught in demo.ask(endpoint, demo.TUNED, question)
    assert taught not in demo.ask(endpoint, demo.BASE, question)
    assert kept in demo.ask(endpoint, demo.TUNED, known)
    served = logprobs(endpoint, question)
    assert len(served) > 4
    for (_, ours), theirs in zip(served, peft_logprobs(adapter, question, [t for t, _ in served]), strict=True):
        assert abs(ours - theirs) < TOLERANCE

    # What was resolved to a digest is served on when the run's Workspace goes.
    plane.kubectl("delete", "workspace", TUNING)
    kept_on = until(plane, SERVING, lambda s: "is gone" in s["adapters"][0]["message"], timeout_s=60)
    assert kept_on["adapters"][0]["state"] == "Ready"
    assert taught in demo.ask(endpoint, demo.TUNED, question)


@contextmanager
def followed(plane: Plane, to: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Write what `kaito-ray logs -f` says to a file, until the job or the block ends."""
    words = [KAITO_RAY, "logs", TUNING, "--follow", "--tail=-1"]
    with to.open("wb") as file, subprocess.Popen(words, env=plane.env, stdout=file) as process:
        try:
            yield process
        finally:
            process.terminate()


def watched_on_a_terminal(plane: Plane) -> str:
    """Return all that `kaito-ray tune watch` draws on a terminal until the run ends."""
    screen, terminal = pty.openpty()
    environment = {**plane.env, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    drawn = bytearray()
    with subprocess.Popen([KAITO_RAY, "tune", "watch", TUNING], env=environment, stdout=terminal) as process:
        os.close(terminal)
        # It ends in an error where nobody has the terminal open any more.
        with suppress(OSError):
            while chunk := os.read(screen, 65536):
                drawn += chunk
        assert process.wait(timeout=60) == 0
    os.close(screen)
    return drawn.decode()


def head_pod(plane: Plane) -> dict[str, Any]:
    pods = plane.get("pods", f"--selector=kaito.sh/workspace={TUNING}")["items"]
    (pod,) = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    found: dict[str, Any] = pod
    return found


def gauges(plane: Plane) -> dict[str, float]:
    """Return our gauges as Prometheus would scrape them; Ray exports them every few seconds."""
    ports = head_pod(plane)["spec"]["containers"][0]["ports"]
    port = next(p["hostPort"] for p in ports if p["name"] == "metrics")
    end = time.monotonic() + 60
    while True:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=30).text
        lines = [line for line in text.splitlines() if "kaito_tuning_" in line and not line.startswith("#")]
        found = {line.partition("{")[0].removeprefix("ray_"): float(line.rpartition(" ")[2]) for line in lines}
        if {"kaito_tuning_step", "kaito_tuning_steps", "kaito_tuning_loss", "kaito_tuning_tokens_per_second"} <= {
            *found
        }:
            assert all(f'workspace="{TUNING}"' in line for line in lines)
            return found
        assert time.monotonic() < end, text[-2000:]
        time.sleep(1)


def steps_done_twice(told: list[TuningProgress]) -> int:
    steps = [p.status.step for p in told if p.phase == "Training"]
    return max((before - after for before, after in pairwise(steps) if after < before), default=0)


def logprobs(endpoint: str, question: str) -> list[tuple[int, float]]:
    """Return the served adapter's tokens with their log-probabilities."""
    body = {
        "model": demo.TUNED,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 24,
        "logprobs": True,
        "return_tokens_as_token_ids": True,
    }
    answer = httpx.post(f"{endpoint}/v1/chat/completions", json=body, timeout=120, trust_env=False)
    content = answer.json()["choices"][0]["logprobs"]["content"]
    return [(int(entry["token"].removeprefix("token_id:")), float(entry["logprob"])) for entry in content]


def peft_logprobs(adapter: Path, question: str, tokens: list[int]) -> list[float]:
    """Return the log-probabilities of the same tokens by transformers and peft, in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = local_directory(find(demo.BASE).source)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32), adapter)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
    ids = list(prompt if isinstance(prompt, list) else prompt["input_ids"])
    with torch.no_grad():
        logits = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
    return [float(row[token]) for row, token in zip(logits.log_softmax(-1), tokens, strict=True)]
