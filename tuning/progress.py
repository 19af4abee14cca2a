"""A run's progress, from whoever knows it to the driver's log.

Workers append what is new to a file of the run, and the driver prints it as lines (`kaito_ray.api.tuning_args` says why a
log). Printing from a worker would put Ray's own prefix before it, and lose it together with the worker's node. A file,
because a step then waits for nobody; an actor in between is another process, with the memory of one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ray.train import Checkpoint, UserCallback

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import TuningProgress

_POLL_S: Final = 0.5


def tell(file: Path, status: TuningStatus) -> None:
    """Append the fields that are set in `status`; what is not set stays as it was told before."""
    with file.open("a") as lines:
        lines.write(f"{json.dumps(status.model_dump(exclude_unset=True))}\n")


@contextmanager
def printed(file: Path) -> Iterator[None]:
    """Print, until the block ends, whatever is told in `file`; it begins empty."""
    file.write_text("")
    ended = threading.Event()

    def print_all() -> None:
        with file.open() as lines:
            told = News()
            while not ended.wait(_POLL_S):
                told.print(lines.read())
            told.print(lines.read())

    printer = threading.Thread(target=print_all, name="progress", daemon=True)
    printer.start()
    try:
        yield
    finally:
        ended.set()
        printer.join(timeout=20 * _POLL_S)


class News:
    """What was told so far."""

    def __init__(self) -> None:
        self._status = TuningStatus()
        self._half = ""

    def print(self, text: str) -> None:
        """Print a line for each one in `text`; half a line waits for its other half."""
        *lines, self._half = (self._half + text).split("\n")
        for line in lines:
            self._status = self._status.model_copy(update=json.loads(line))
            print(TuningProgress(phase="Training", status=self._status).to_line(), flush=True)


class TellCheckpoints(UserCallback):  # type: ignore[misc]  # Ray Train's v2 is not typed
    """Tells of a checkpoint once Ray Train has recorded it: only then does a killed run go on from it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        """Called in Ray Train's controller, after its own record is written."""
        del run_context, metrics
        if checkpoint is not None:
            tell(self._file, TuningStatus(checkpoint=Path(checkpoint.path).name))
