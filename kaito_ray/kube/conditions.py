"""Conditions as Kubernetes and its controllers write them into a `status`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def find(status: Mapping[str, Any] | None, type_: str) -> Mapping[str, Any]:
    """Return that condition of a `status`, or of a part of it that has conditions; empty where it has none."""
    conditions = (status or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def holds(item: Mapping[str, Any] | None, type_: str) -> bool:
    """Return whether that condition of an object is True."""
    return find((item or {}).get("status"), type_).get("status") == "True"
