"""The CRDs of KubeRay and Karpenter; where they come from is in README.md beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any


def manifests() -> Iterator[dict[str, Any]]:
    """Yield each CustomResourceDefinition, ready to be created."""
    for entry in sorted(files(__package__).iterdir(), key=lambda one: one.name):
        if entry.name.endswith(".json"):
            manifest: dict[str, Any] = json.loads(entry.read_text(encoding="utf-8"))
            yield manifest
