"""Imports of large packages without what they import in passing: a third of a small process's memory.

Everything stays the package's own code; only the `__init__` of a parent, or an optional part, is left out while one
import runs. See docs/adr/0002.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, cast


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Within, these optional packages cannot be imported, unless they are there already."""
    hidden = [name for name in packages if name not in sys.modules]
    # Python's own way to say so: an import that finds None raises ModuleNotFoundError.
    sys.modules.update(dict.fromkeys(hidden, cast("ModuleType", None)))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def bare(package: str, *subpackages: str) -> Iterator[None]:
    """Within, modules below these packages can be imported without running the packages' `__init__`.

    `subpackages` are paths below `package`, outer ones first. Afterwards each package can be imported as ever, and then
    keeps the modules that were loaded within.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No package named {package!r}", name=package)
    root = Path(next(iter(spec.submodule_search_locations)))
    made: dict[str, Any] = {}
    for below in ("", *subpackages):
        name = f"{package}.{below}".rstrip(".")
        if name not in sys.modules:
            made[name] = ModuleType(name)
            made[name].__path__ = [str(root.joinpath(*below.split(".")))]
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
