"""Legal fields that this version does not carry out. Removing an entry is all it takes when one lands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kaito_ray.api.workspace import Workspace
from kaito_ray.errors import NotYetSupported

_Asks = Callable[[Workspace], bool]


ENTRIES: Final[tuple[tuple[str, _Asks, str], ...]] = (
    ("resource.partition", lambda w: w.resource.partition is not None, "remove it; whole GPUs are used"),
)
"""Field, whether a Workspace asks for it, and what to do."""


def unsupported(workspace: Workspace) -> NotYetSupported | None:
    """Return the first such field that the Workspace uses, with the names of the others."""
    found = [(field, remedy) for field, asks, remedy in ENTRIES if asks(workspace)]
    if not found:
        return None
    field, remedy = found[0]
    others = ", ".join(name for name, _ in found[1:])
    return NotYetSupported(field, f"not supported yet; {remedy}" + (f" (nor are {others})" if others else ""))
