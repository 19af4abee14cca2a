"""Placeholders of the documentation (`ACR_REPO_HERE`) that nobody replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kaito_ray.errors import InvalidWorkspace

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the manifest; everything in it was found where it stands."""
_PLACEHOLDER: Final = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*_HERE\b")


def faults(manifest: Mapping[str, Any]) -> Iterator[InvalidWorkspace]:
    """Yield one fault for each string that still has placeholders in it."""
    for part in ("metadata", "resource", "inference", "tuning"):
        for field, text in _strings(manifest.get(part), part):
            if found := list(dict.fromkeys(_PLACEHOLDER.findall(text))):
                what = "is a placeholder" if len(found) == 1 else "are placeholders"
                yield InvalidWorkspace(field, f"{' and '.join(found)} {what}; put your own value in its place")


def _strings(node: Any, path: str) -> Iterator[tuple[str, str]]:
    match node:
        case str():
            yield path, node
        case Mapping():
            for key, child in node.items():
                if key not in ("managedFields", _LAST_APPLIED):
                    yield from _strings(child, f"{path}.{key}")
        case list() | tuple():
            for index, child in enumerate(node):
                yield from _strings(child, f"{path}[{index}]")
