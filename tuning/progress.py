"""A run's progress: from the trainer in a worker to the driver's log, and to Prometheus.

Workers put each report on a queue, and the driver prints it as one line (`kaito_ray.api.tuning_args` says why a log).
Printing from the worker would put Ray's own prefix before it, and lose it together with the worker's node.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint
from ray.util.metrics import Gauge
from ray.util.queue import Empty, Queue
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import TuningProgress

_POLL_S = 1.0


@contextmanager
def board() -> Iterator[Queue]:
    """Print, until the block ends, whatever is put on the queue that is yielded."""
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()

    def print_all() -> None:
        while True:
            try:
                print(queue.get(timeout=_POLL_S).to_line(), flush=True)
            except Empty:
                if ended.is_set():
                    return

    printer = threading.Thread(target=print_all, name="progress", daemon=True)
    printer.start()
    try:
        yield queue
    finally:
        ended.set()
        printer.join(timeout=10 * _POLL_S)
        queue.shutdown()


class ReportProgress(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Reports from the worker of rank 0, and hands every worker's checkpoint to Ray Train."""

    def __init__(self, queue: Queue, *, workspace: str, namespace: str) -> None:
        self._queue = queue
        self._first = ray.train.get_context().get_world_rank() == 0
        self._gauges = _Gauges(workspace, namespace) if self._first else None
        self._status = TuningStatus()
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
        self._report(changes)

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Give the checkpoint to Ray Train, which keeps it in the run's storage and finds it again after any crash.

        Each worker has a part of it (rank 0 the adapter and optimizer, every one its own random state), in a directory
        of its own; Ray joins the parts, and waits until all are there.
        """
        name = f"checkpoint-{state.global_step}"
        checkpoint = Checkpoint.from_directory(Path(args.output_dir) / name)
        metrics = {"step": state.global_step, "loss": self._status.loss, "eval_loss": self._status.eval_loss}
        ray.train.report(metrics, checkpoint=checkpoint)
        if self._first:
            self._report({"checkpoint": name})

    def _report(self, changes: dict[str, Any]) -> None:
        self._status = self._status.model_copy(update=changes)
        self._queue.put(TuningProgress(phase="Training", status=self._status))
        if self._gauges:
            self._gauges.set(self._status)

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
