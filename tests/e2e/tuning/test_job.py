"""The job alone, as a process: killed half-way, started again, and pushed. What is learned is test_story.py's point."""

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
from tests.registry import RunningRegistry, oci_layout

# peft reads a property of transformers that is about to be renamed.
pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")]

STEPS = 36
"""Ray Train takes a checkpoint a second at most, and there is one every three steps: time enough to be killed in."""


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
    """Kill one of the processes that train, as the kernel does when memory runs out."""
    children = psutil.Process(process.pid).children(recursive=True)
    worker, _ = [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]
    worker.kill()


def secret_of(registry: RunningRegistry, directory: Path) -> Path:
    directory.mkdir()
    (directory / ".dockerconfigjson").write_text(registry.docker_config())
    return directory


def test_two_workers_share_an_images_data_go_on_when_killed_and_push_when_they_can(
    model: Path, data: bytes, registry: RunningRegistry, tmp_path: Path
) -> None:
    layer = adapters.tar({"data/train.parquet": data})
    registry.push_with_skopeo(oci_layout(tmp_path / "layout", [adapters.layer_of(layer)], layer), "team/data:1")
    secret = str(secret_of(registry, tmp_path / "secret"))
    args: dict[str, Any] = {
        "workspace": "atlantis",
        "namespace": "default",
        "preset": "smollm2-135m-instruct",
        "source": {"localDir": str(model)},
        "method": "lora",
        "device": "cpu",
        "workers": 2,
        "trainingConfig": {
            "TrainingArguments": {
                "max_steps": STEPS,
                "per_device_train_batch_size": 2,
                "learning_rate": 1e-2,
                "save_steps": 3,
            },
            "DatasetConfig": {"train_test_split": 0.9},
        },
        "input": {"image": registry.image("team/data:1"), "credentials": [secret]},
        "output": {"image": registry.image("team/atlantis:1")},
        "workDirectory": str(tmp_path / "work"),
    }
    log: list[str] = []

    # Killed without a word, once there is a checkpoint.
    with job(args, tmp_path) as process:
        assert process.stdout is not None
        seen = next((p for p in progress(process.stdout, log) if p.status.checkpoint == "checkpoint-6"), None)
        assert seen is not None, "".join(log[-40:])

    # Started again without a secret: it goes on where it was, also when a worker is lost, and only the push fails.
    with job(args, tmp_path) as process:
        assert process.stdout is not None
        steps: list[int] = []
        held = killed_at = 0
        for told in progress(process.stdout, log):
            if told.phase == "Training":
                steps.append(told.status.step)
            if told.status.checkpoint and not held:
                held, killed_at = int(told.status.checkpoint.removeprefix("checkpoint-")), len(steps)
                kill_worker(process)
        assert process.wait(timeout=60) == 1, "".join(log[-40:])
    assert 6 < held < STEPS, "".join(log[-40:])
    assert min(steps) > 6
    # The evaluation at that step comes after it.
    assert min(steps[killed_at:]) >= held, "a checkpoint that was told of is one to go on from"
    assert steps[-1] == STEPS
    failure = last_failure(log)
    assert failure is not None
    assert failure.reason == "PushFailed"
    assert "only pushes" in failure.message

    # With the secret nothing is tuned again.
    with job({**args, "credentials": secret}, tmp_path) as process:
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
    assert [step for step, _ in report["loss"]] == list(range(1, STEPS + 1)), "no gap in the curve, no step twice"
    assert report["loss"][-1][1] < report["loss"][0][1]
    assert report["data"]["heldOutExamples"] == 2
    assert (run / "adapter" / "loss.png").stat().st_size > 1000
    assert len(list(run.glob("checkpoint-*"))) == 2, "older ones are removed"
