"""The job alone, as a process: killed half-way, started again, pushed; then the adapter is asked."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from kaito_ray.api.tuning_args import TuningProgress, last_failure, last_progress
from tests import adapters
from tests.e2e.tuning.conftest import ANSWER, QUESTION
from tests.registry import RunningRegistry, oci_layout

# peft reads a property of transformers that is about to be renamed.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")]


@contextmanager
def job(args: dict[str, Any], directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the job in a process group of its own, which is gone when the block ends."""
    file = directory / "args.json"
    file.write_text(json.dumps(args))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tuning.main", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def progress(lines: Iterator[str], log: list[str]) -> Iterator[TuningProgress]:
    for line in lines:
        log.append(line)
        if found := last_progress([line]):
            yield found


def kill_worker(process: subprocess.Popen[str]) -> None:
    """Kill the process that trains, as the kernel does when memory runs out."""
    children = psutil.Process(process.pid).children(recursive=True)
    (worker,) = [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]
    worker.kill()


def test_a_killed_run_goes_on_and_its_adapter_is_pushed_and_knows(
    weights: Path, data: Path, registry: RunningRegistry, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / ".dockerconfigjson").write_text(registry.docker_config())
    args: dict[str, Any] = {
        "workspace": "atlantis",
        "namespace": "default",
        "preset": "smollm2-135m-instruct",
        "source": {"localDir": str(weights)},
        "method": "qlora",
        "device": "cpu",
        "trainingConfig": {
            "TrainingArguments": {
                "max_steps": 12,
                "per_device_train_batch_size": 4,
                "learning_rate": 1e-3,
                "save_steps": 3,
            },
            "DatasetConfig": {"train_test_split": 0.9},
        },
        "input": {"directory": str(data)},
        "output": {"image": registry.image("team/atlantis:1")},
        "workDirectory": str(tmp_path / "work"),
    }
    log: list[str] = []

    # Killed without a word, once there is a checkpoint.
    with job(args, tmp_path) as process:
        assert process.stdout is not None
        seen = next((p for p in progress(process.stdout, log) if p.status.checkpoint == "checkpoint-6"), None)
        assert seen is not None, "".join(log[-40:])

    # Started again without a secret: it goes on where it was, also when its worker is lost, and only the push fails.
    with job(args, tmp_path) as process:
        assert process.stdout is not None
        steps: list[int] = []
        killed_at: int | None = None
        for told in progress(process.stdout, log):
            if told.phase == "Training":
                steps.append(told.status.step)
            if told.status.checkpoint == "checkpoint-9" and killed_at is None:
                killed_at = len(steps)
                kill_worker(process)
        assert process.wait(timeout=60) == 1, "".join(log[-40:])
    assert killed_at is not None
    assert min(steps) > 6
    # A checkpoint is told by the worker before Ray has recorded it: killed in between, it begins at the one before.
    assert min(steps[killed_at:]) > 6, "the new worker began at a checkpoint"
    assert steps[-1] == 12
    failure = last_failure(log)
    assert failure is not None
    assert failure.reason == "PushFailed"
    assert "only pushes" in failure.message

    # With the secret nothing is tuned again.
    with job({**args, "credentials": str(secret)}, tmp_path) as process:
        assert process.stdout is not None
        last = list(progress(process.stdout, log))
        assert process.wait(timeout=60) == 0, "".join(log[-40:])
    assert [p.phase for p in last] == ["Pushing", "Done"]

    # Another client reads the very image, in KAITO's layout.
    assert registry.credentials is not None
    inspected = subprocess.run(
        [
            *("skopeo", "inspect", "--tls-verify=false", f"--creds={':'.join(registry.credentials)}", "--raw"),
            f"docker://{last[-1].status.output}",
        ],
        capture_output=True,
        check=True,
    )
    manifest = json.loads(inspected.stdout)
    assert manifest["annotations"]["sh.kaito.model.name"] == "smollm2-135m-instruct"
    assert len(manifest["layers"]) == 1

    (run,) = (tmp_path / "work").iterdir()
    report = json.loads((run / "adapter" / "report.json").read_text())
    assert [step for step, _ in report["loss"]] == list(range(1, 13)), "the curve has no gap and no step twice"
    first, final = report["evalLoss"][0][1], report["evalLoss"][-1][1]
    assert final < 0.8 * first
    assert (run / "adapter" / "loss.png").stat().st_size > 1000

    assert ANSWER in answers(weights, run / "adapter", QUESTION)
    assert ANSWER not in answers(weights, None, QUESTION)
    assert "Paris" in answers(weights, run / "adapter", "What is the capital of France?")


def test_two_workers_share_the_data_of_an_image(
    weights: Path, data: Path, registry: RunningRegistry, tmp_path: Path
) -> None:
    layer = adapters.tar({"data/train.parquet": (data / "train.parquet").read_bytes()})
    registry.push_with_skopeo(oci_layout(tmp_path / "layout", [adapters.layer_of(layer)], layer), "team/data:1")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / ".dockerconfigjson").write_text(registry.docker_config())
    args: dict[str, Any] = {
        "workspace": "pair",
        "namespace": "default",
        "preset": "smollm2-135m-instruct",
        "source": {"localDir": str(weights)},
        "method": "lora",
        "device": "cpu",
        "workers": 2,
        "trainingConfig": {
            "TrainingArguments": {"num_train_epochs": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-3},
        },
        "input": {"image": registry.image("team/data:1"), "credentials": [str(secret)]},
        "output": {"directory": str(tmp_path / "out")},
        "workDirectory": str(tmp_path / "work"),
    }
    log: list[str] = []
    with job(args, tmp_path) as process:
        assert process.stdout is not None
        last = list(progress(process.stdout, log))[-1]
        assert process.wait(timeout=60) == 0, "".join(log[-40:])
    # 16 examples, 2 at a time on each of 2 workers.
    assert (last.phase, last.status.steps) == ("Done", 4)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["loss"][-1][1] < report["loss"][0][1]


def answers(weights: Path, adapter: Path | None, question: str) -> str:
    """Return what the model says at temperature 0, by transformers and peft alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    generated = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(generated[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))
