"""What a run leaves beside its adapter: its numbers as JSON, and the loss curve as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from typing import Any, Final

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import TuningArgs
from tuning.config import TrainingConfig
from tuning.data import Data
from tuning.paths import RunDirectory

_LIBRARIES: Final = ("ray", "torch", "transformers", "trl", "peft", "bitsandbytes")
Curve = list[tuple[int, float]]
"""Steps and losses."""


@dataclass(frozen=True)
class Report:
    """One finished run."""

    status: TuningStatus
    data_digest: str
    versions: Mapping[str, str]


def write(args: TuningArgs, config: TrainingConfig, data: Data, directory: RunDirectory, *, seconds: float) -> None:
    """Write report and picture; the report comes last, and makes the run a finished one."""
    history = json.loads(directory.history.read_text())
    losses, eval_losses = curve(history, "loss"), curve(history, "eval_loss")
    last = history[-1]
    status = TuningStatus(
        step=last["step"],
        steps=last["step"],
        epoch=round(last["epoch"], 3),
        loss=round(losses[-1][1], 4) if losses else None,
        eval_loss=round(eval_losses[-1][1], 4) if eval_losses else None,
        eta_seconds=0,
    )
    plot(losses, eval_losses, directory)
    document = {
        "status": status.to_wire(),
        "baseModel": args.preset,
        "revision": args.source.revision or args.source.package,
        "method": args.method,
        "profile": config.profile,
        "workers": args.workers,
        "data": {
            "files": list(data.files),
            "digest": data.digest,
            "trainExamples": len(data.train),
            "heldOutExamples": len(data.held_out),
        },
        "seconds": round(seconds, 1),
        "trainingSeconds": next((e["train_runtime"] for e in reversed(history) if "train_runtime" in e), None),
        "tokens": tokens(history),
        "loss": losses,
        "evalLoss": eval_losses,
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    partial = directory.report.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=1))
    partial.rename(directory.report)


def read(directory: RunDirectory) -> Report:
    """Return the report of a finished run."""
    document = json.loads(directory.report.read_text())
    return Report(
        status=TuningStatus.from_wire(document["status"]),
        data_digest=document["data"]["digest"],
        versions=document["versions"],
    )


def tokens(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the tokens that were trained on, over all attempts.

    TRL counts from zero again when a run is resumed: wherever the count falls, an attempt began.
    """
    counts = [int(entry["num_tokens"]) for entry in history if "num_tokens" in entry]
    ends = [now for now, after in pairwise([*counts, 0]) if after < now]
    return sum(ends) if counts else None


def curve(history: Sequence[Mapping[str, Any]], name: str) -> Curve:
    """Return the points of one quantity that the trainer logged."""
    return [(int(entry["step"]), round(float(entry[name]), 5)) for entry in history if name in entry]


def plot(losses: Curve, eval_losses: Curve, directory: RunDirectory) -> None:
    """Draw training loss as a line and held-out loss as dots."""
    from PIL import Image, ImageDraw

    width, height, margin = 960, 480, 60
    points = [*losses, *eval_losses]
    last_step = max((step for step, _ in points), default=1) or 1
    highest = max((loss for _, loss in points), default=1.0) or 1.0

    def place(step: int, loss: float) -> tuple[float, float]:
        x = margin + (width - 2 * margin) * step / last_step
        return x, height - margin - (height - 2 * margin) * loss / highest

    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(0, highest * share)
        draw.line((x, y, width - margin, y), fill="#dddddd")
        draw.text((8, y - 6), f"{highest * share:.3g}", fill="black")
        x, y = place(round(last_step * share), 0.0)
        draw.text((x - 8, y + 10), str(round(last_step * share)), fill="black")
    if len(losses) > 1:
        draw.line([place(*point) for point in losses], fill="#1f6feb", width=2)
    for point in eval_losses:
        x, y = place(*point)
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill="#d1242f")
    draw.text((margin, 16), "loss by step: training (blue line), held out (red dots)", fill="black")
    image.save(directory.plot)
