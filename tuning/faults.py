"""Words for names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(name: str, known: Iterable[str], *, section: str = "") -> str:
    """Say that there is no such section, or field of `section`, and name the nearest that there is."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    what = f"{section}.{name}: there is no such field" if section else f"{name}: there is no such section"
    return f"{what}, did you mean {near[0]}?" if near else f"{what}, only {', '.join(names)}"
