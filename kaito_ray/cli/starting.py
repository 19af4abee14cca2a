"""Starting the control plane with each of its processes in sight."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

_LOOK_S: Final = 0.2


def start_detached(home: Path) -> None:
    """Return once the control plane runs; says which of its processes does as soon as it does.

    Raises:
        AlreadyRunning: one runs in that home.
        StartFailed: it did not come up; the message holds the log's last lines.
    """
    from kaito_ray.cli.console import console, say
    from kaito_ray.local import up as control_plane

    seen: set[str] = set()

    def look() -> None:
        for part in control_plane.state(home).parts:
            if part.running and part.name not in seen:
                seen.add(part.name)
                say(f"  [green]✓[/] {part.name:<10} process {part.pid}")

    with ThreadPoolExecutor(max_workers=1) as pool, console(stderr=True).status("starting"):
        started = pool.submit(control_plane.up, home, detach=True)
        while not started.done():
            look()
            wait([started], timeout=_LOOK_S)
        started.result()
        look()
