"""Placeholders of the documentation (`ACR_REPO_HERE`) that nobody replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kaito_ray.errors import InvalidWorkspace

_NOT_SEARCHED: Final = ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
"""The second is kubectl's copy of the manifest; everything in it was found where it stands."""
_PLACEHOLDER: Final = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_HERE\b")


def faults(manifest: Mapping[str, Any]) -> Iterator[InvalidWorkspace]:
    """Yield one fault for each string that still has placeholders in it."""
    for part in ("metadata", "resource", "inference", "tuning"):
        for field, text in _strings(manifest.get(part), part):
            if found := list(dict.fromkeys(_PLACEHOLDER.findall(text))):
                what = "is a placeholder" if len(found) == 1 else "are placeholders"
                yield InvalidWorkspace(field, f"{' and '.join(found)} {what}; put your own value in its place")


def _strings(root: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every string with its path, in order; without recursion, for a manifest may be nested as deep as it likes."""
    waiting = [(path, root)]
    while waiting:
        path, node = waiting.pop()
        match node:
            case str():
                yield path, node
            case Mapping():
                kept = [(f"{path}.{key}", child) for key, child in node.items() if key not in _NOT_SEARCHED]
                waiting += reversed(kept)
            case list() | tuple():
                waiting += reversed([(f"{path}[{index}]", child) for index, child in enumerate(node)])
