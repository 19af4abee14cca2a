"""Progress for people: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

LINE_EVERY_S = 5.0


def _print(line: str) -> None:
    print(line, flush=True)


class Progress:
    """Where lines go: standard output, or a logger inside a replica."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.say = say or _print
        self._bars = say is None and sys.stdout.isatty()

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """Yield a function to be told bytes done and bytes in all, as often as the caller likes."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Bars(*columns, console=Console(file=sys.stdout), disable=not self._bars) as bars:
            bar = bars.add_task(what, total=None)
            said_at = time.monotonic()

            def update(done: int, total: int) -> None:
                nonlocal said_at
                bars.update(bar, completed=done, total=total)
                if not self._bars and time.monotonic() - said_at >= LINE_EVERY_S:
                    said_at = time.monotonic()
                    self.say(f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

            yield update
