"""Waiting for a Workspace, with its columns and its WHY in sight.

On a terminal the lines are redrawn in place; elsewhere a line is written whenever something changed, so that a log of
the wait reads as its story.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kaito_ray.cli import workspaces
from kaito_ray.errors import ApiUnavailable, KaitoRayError, UserError
from kaito_ray.kube.cluster import WORKSPACES

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Cluster

POLL_S = 1.0
_NARROW = ("NAME", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY")

Show = Callable[[Sequence[Mapping[str, Any]], float], None]
"""Shows Workspaces as they are, and the seconds since the wait began."""


class NotReadyInTime(KaitoRayError):
    """The Workspace is still not ready."""

    reason = "NotReadyInTime"


class WaitsForEdit(UserError):
    """The Workspace will not become ready as it is written."""

    reason = "WaitsForEdit"


async def until_ready(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    show: Show,
    timeout_s: float,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Mapping[str, Any]:
    """Return the Workspace once it serves; `show` sees every look at it.

    Raises:
        workspaces.NoSuchWorkspace: it is not there.
        WaitsForEdit: only an edit of its manifest can help.
        NotReadyInTime: `timeout_s` went by.
    """
    began = clock()
    while True:
        elapsed_s = clock() - began
        try:
            found = await cluster.get(WORKSPACES, name, namespace)
        except ApiUnavailable as error:  # a supervisor may be restarting it at this very moment
            found, reason = {"metadata": {"name": name}}, str(error)
        else:
            reason = workspaces.why(found or {})
        if found is None:
            raise workspaces.NoSuchWorkspace(f"Workspace {name!r} is not there (any more): apply it again")
        show([found], elapsed_s)
        if workspaces.is_ready(found):
            return found
        if words := workspaces.stuck(found):
            raise WaitsForEdit(f"Workspace {name!r} cannot become ready as it is written: {words}")
        if elapsed_s > timeout_s:
            raise NotReadyInTime(
                f"Workspace {name!r} is not ready after {elapsed_s:.0f} s ({reason or 'no reason given'}); "
                f"look at `kubectl describe workspace {name}` and `kaito-ray logs {name}`"
            )
        await pause(POLL_S)


@contextmanager
def display(*, elapsed: bool = True) -> Iterator[Show]:
    """Yield a `Show` for this terminal, or for a file."""
    from rich.console import Console
    from rich.live import Live

    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield _lines_on_change(elapsed=elapsed)
        return
    with Live(console=screen, auto_refresh=False) as live:
        yield lambda found, seconds: live.update(_table(found, seconds if elapsed else None), refresh=True)


def _table(found: Sequence[Mapping[str, Any]], elapsed_s: float | None) -> Any:
    """Return the columns, and each WHY on a line of its own below: there it fits a terminal of 80 columns."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in (*_NARROW, *(("ELAPSED",) if elapsed_s is not None else ())):
        table.add_column(column, no_wrap=True)
    reasons = []
    for workspace in found:
        cells = dict(zip(workspaces.COLUMNS, workspaces.row(workspace), strict=True))
        elapsed = [f"{elapsed_s:.0f}s"] if elapsed_s is not None else []
        table.add_row(*(_coloured(escape(cells[column])) for column in _NARROW), *elapsed)
        if cells["WHY"]:
            reasons.append(Text(f"  {cells['NAME']}: {cells['WHY']}", style="dim"))
    return Group(table, *reasons)


def _coloured(cell: str) -> str:
    return {"True": "[green]True[/]", "False": "[yellow]False[/]"}.get(cell, cell)


def _lines_on_change(*, elapsed: bool) -> Show:
    from kaito_ray.cli.console import say

    last: list[tuple[str, ...]] = []

    def show(found: Sequence[Mapping[str, Any]], seconds: float) -> None:
        rows = [workspaces.row(workspace) for workspace in found]
        for row in rows:
            if row not in last:
                named = (f"{c.lower()}={v}" for c, v in zip(workspaces.COLUMNS, row, strict=True) if v)
                say((f"{seconds:5.0f}s  " if elapsed else "") + "  ".join(named))
        last[:] = rows

    return show
