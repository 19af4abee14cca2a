"""What the trainer says at each step and each checkpoint: to the run's progress, to Ray Train and to Prometheus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointUploadMode
from ray.util.metrics import Gauge
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kaito_ray.api.status import TuningStatus
from tuning.progress import tell


class ReportProgress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells from the worker of rank 0, and has every worker's checkpoints recorded."""

    def __init__(self, file: Path, *, workspace: str, namespace: str) -> None:
        self._file = file
        self._first = ray.train.get_context().get_world_rank() == 0
        self._gauges = _Gauges(workspace, namespace) if self._first else None
        self._began = (0.0, 0)
        self._last: tuple[float, int] | None = None

    def on_train_begin(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Start the clock; a resumed run does not count what was done before."""
        self._began = (time.monotonic(), state.global_step)
        self._last = (time.monotonic(), 0) if state.global_step == 0 else None

    def on_log(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        """Report a step, or an evaluation."""
        if not self._first:
            return
        now = time.monotonic()
        changes: dict[str, Any] = {
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": round(float(state.epoch or 0.0), 3),
            "eta_seconds": self._eta_s(state, now),
        }
        for ours, theirs in (("loss", "loss"), ("eval_loss", "eval_loss")):
            if theirs in logs:
                changes[ours] = round(float(logs[theirs]), 4)
        if "loss" in logs and "num_tokens" in logs:
            changes["tokens_per_second"] = self._tokens_per_s(int(logs["num_tokens"]), now)
        news = TuningStatus(**changes)
        tell(self._file, news)
        if self._gauges:
            self._gauges.set(news)

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Have Ray Train record the checkpoint, to find it again after any crash.

        It lies where Ray keeps it, written once. Each worker has a part in it (rank 0 the adapter and optimizer, every
        one its own random state), and Ray waits until all have come here.
        """
        checkpoint = Checkpoint.from_directory(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        ray.train.report(
            {"step": state.global_step}, checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD
        )

    def _eta_s(self, state: TrainerState, now: float) -> int | None:
        began, first_step = self._began
        done = state.global_step - first_step
        return round((now - began) / done * (state.max_steps - state.global_step)) if done else None

    def _tokens_per_s(self, tokens: int, now: float) -> float | None:
        before, self._last = self._last, (now, tokens)
        if before is None or now <= before[0]:
            return None
        return round((tokens - before[1]) / (now - before[0]), 1)


class _Gauges:
    """The same numbers for Prometheus, on Ray's own metrics port."""

    _KNOWN = ("step", "steps", "loss", "eval_loss", "tokens_per_second", "eta_seconds")

    def __init__(self, workspace: str, namespace: str) -> None:
        tags = {"workspace": workspace, "namespace": namespace}
        self._gauges = {}
        for name in self._KNOWN:
            gauge = Gauge(f"kaito_tuning_{name}", TuningStatus.model_fields[name].description or name, tuple(tags))
            gauge.set_default_tags(tags)
            self._gauges[name] = gauge

    def set(self, status: TuningStatus) -> None:
        """Show `status`; what is not known yet is not shown."""
        for name, gauge in self._gauges.items():
            value = getattr(status, name)
            if value is not None:
                gauge.set(float(value))
