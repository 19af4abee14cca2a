"""Where a run keeps its files: one directory on a volume that outlives the job's pods.

A run is named by what it does, so a job that is started again finds its own checkpoints, and one with another config,
other data or another model never continues on them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kaito_ray.api.app_args import MOUNT_ROOT
from kaito_ray.api.names import fitted, short_hash
from kaito_ray.api.tuning_args import TuningArgs

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What an adapter consists of."""


def on_this_machine(path: str) -> Path:
    """Return where a path of the container is: below `KAITO_RAY_MOUNT_ROOT`, if that is set and holds it."""
    root = os.environ.get(MOUNT_ROOT)
    inside = Path(root) / path.lstrip("/") if root else None
    # A laptop's own directories may be named as well, for a run without a container.
    return inside if inside is not None and path.startswith("/mnt/") else Path(path)


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    root: Path

    @property
    def name(self) -> str:
        """The name of the run, also for Ray Train, which finds its checkpoints by it."""
        return self.root.name

    @property
    def downloads(self) -> Path:
        """Data as it came."""
        return self.root / "downloads"

    @property
    def image_data(self) -> Path:
        """Data out of an image; it appears whole."""
        return self.root / "image-data"

    @property
    def train(self) -> Path:
        """Examples to learn from, as `datasets` keeps them."""
        return self.root / "data" / "train"

    @property
    def held_out(self) -> Path:
        """Examples to measure with; absent where nothing is held out."""
        return self.root / "data" / "held-out"

    @property
    def progress(self) -> Path:
        """What the workers tell as they go."""
        return self.root / "progress.jsonl"

    @property
    def adapter(self) -> Path:
        """The finished adapter; it appears whole."""
        return self.root / "adapter"

    @property
    def history(self) -> Path:
        """What was logged, step by step."""
        return self.adapter / "history.json"

    @property
    def report(self) -> Path:
        """The run in numbers; written last, so it says that the adapter is finished."""
        return self.adapter / "report.json"

    @property
    def plot(self) -> Path:
        """The loss curve as a picture."""
        return self.adapter / "loss.png"


def run_directory(args: TuningArgs) -> RunDirectory:
    """Return the directory of the run that `args` describe.

    Where the adapter goes, how many work on it and whether to resume do not make it another run.
    """
    same = args.model_copy(
        update={
            "input": args.input.model_copy(update={"credentials": ()}),
            "output": None,
            "workers": 1,
            "resume": True,
            "credentials": None,
        }
    )
    name = f"{fitted(args.workspace, 40)}-{short_hash(same.model_dump_json())}"
    return RunDirectory(on_this_machine(args.work_directory) / name)
