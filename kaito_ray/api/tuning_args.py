"""What the operator writes for a tuning job, and what the job says about itself.

The job's arguments come in one environment variable, as JSON: they may hold signed URLs, which have no place in argv.
Progress goes out as lines of the job's own log, which Ray's Jobs API serves to whoever holds the cluster's token: the
job needs no right on any Kubernetes object, and the last lines outlive the training processes. See docs/adr/0009.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from kaito_ray.api.app_args import ModelSource
from kaito_ray.api.base import ApiModel
from kaito_ray.api.status import TuningStatus

ENTRYPOINT: Final = "python -m tuning.main"
"""What the RayJob runs."""
CHECK_ONLY: Final = "--check-data"
"""With it, the same program only looks at the data, and needs neither a GPU nor the model."""
ARGS_VARIABLE: Final = "KAITO_RAY_TUNING_ARGS"
"""Environment variable with `TuningArgs` as JSON."""
ALLOW_VARIABLE: Final = "KAITO_RAY_DATA_ALLOW"
"""Environment variable: hosts or networks, comma-separated, that data may come from though they are private."""

DATA_MOUNT: Final = "/mnt/data"
"""Where a volume with training data is mounted."""
WORK_MOUNT: Final = "/mnt/tuning"
"""Checkpoints, prepared data and the finished adapter until it is delivered."""
PULL_MOUNT: Final = "/mnt/data-registry"
"""Where credentials for an image with training data are mounted, each Secret in a directory of its own."""
OUTPUT_MOUNT: Final = "/mnt/output"
"""Where a volume for the adapter is mounted."""

_PROGRESS_KEY: Final = "tuningProgress"
_FAILURE_KEY: Final = "tuningFailure"


class TuningInput(ApiModel):
    """Where the data comes from: exactly one of urls, image and directory is set."""

    urls: tuple[str, ...] = ()
    """Files by http(s)."""
    image: str | None = None
    """OCI image with files below `data/`."""
    credentials: tuple[str, ...] = ()
    """Directories with docker config JSON files for that pull, one for each Secret."""
    directory: str | None = None
    """A mounted directory."""


class TuningOutput(ApiModel):
    """Where the adapter goes: exactly one field is set."""

    image: str | None = None
    """OCI image to push, with a tag."""
    directory: str | None = None
    """A mounted directory."""


class TuningArgs(ApiModel):
    """Arguments of the tuning job of one Workspace. Paths are those inside the container."""

    workspace: str
    """Name of the Workspace."""
    namespace: str
    """Its namespace."""
    preset: str
    """KAITO's short name of the base model; goes into the image's annotations."""
    source: ModelSource
    """Where its weights come from."""
    method: Literal["lora", "qlora"]
    """`qlora` keeps the base model in 4 bits."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Device of the workers."""
    training_config: dict[str, Any] = Field(default_factory=dict)
    """Content of `training_config.yaml` below its root key; empty means the defaults."""
    input: TuningInput
    """Training data."""
    output: TuningOutput
    """The adapter's destination."""
    credentials: str | None = None
    """Directory with docker config JSON files for the push."""
    work_directory: str = WORK_MOUNT
    """Checkpoints and whatever must outlive a killed job. Shared by all nodes where there are several."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Data-parallel workers."""
    resume: bool = True
    """Continue from the last checkpoint of the same run; False starts it anew."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""


class TuningProgress(ApiModel):
    """One line of progress."""

    phase: Literal["Data", "Training", "Pushing", "Done"]
    """What the job does now."""
    status: TuningStatus
    """For `status.tuning`."""

    def to_line(self) -> str:
        """Return the line that the job prints."""
        return json.dumps({_PROGRESS_KEY: self.to_wire()}, separators=(",", ":"))


def progress(lines: Iterable[str]) -> Iterator[TuningProgress]:
    """Yield every progress among the lines of a job's log; lines of a form that we do not know are skipped."""
    for line in lines:
        if line.startswith(f'{{"{_PROGRESS_KEY}"'):
            try:
                yield TuningProgress.from_wire(json.loads(line)[_PROGRESS_KEY])
            except (ValueError, ValidationError):
                # A line cut in half, or a newer job's words: the one before it still holds.
                continue


def last_progress(lines: Iterable[str]) -> TuningProgress | None:
    """Return the last progress among the lines; None where there is none."""
    newest = deque(progress(lines), maxlen=1)
    return newest[0] if newest else None


class TuningFailure(ApiModel):
    """Why the job gave up; its last line."""

    reason: str
    """CamelCase, for conditions."""
    message: str
    """For people."""

    def to_line(self) -> str:
        """Return the line that the job prints."""
        return json.dumps({_FAILURE_KEY: self.to_wire()}, separators=(",", ":"))


def last_failure(lines: Iterable[str]) -> TuningFailure | None:
    """Return why the job gave up, by the lines of its log; None where it does not say.

    Ray puts the last lines of a failed job into its status message, which KubeRay copies into the RayJob: so this also
    works once the cluster is gone.
    """
    found = None
    for line in lines:
        if line.startswith(f'{{"{_FAILURE_KEY}"'):
            try:
                found = TuningFailure.from_wire(json.loads(line)[_FAILURE_KEY])
            except (ValueError, ValidationError):
                continue
    return found
