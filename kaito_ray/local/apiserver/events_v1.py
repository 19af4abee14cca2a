"""Event has two groups and one storage: `v1` is how it lies there, `events.k8s.io/v1` another view of the same."""

from __future__ import annotations

from typing import Any, Final

_NAMES: Final = {
    "regarding": "involvedObject",
    "note": "message",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
    "reportingController": "reportingComponent",
}
_BACK: Final = {stored: shown for shown, stored in _NAMES.items()}


def to_stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return an `events.k8s.io/v1` Event as a core one."""
    renamed = {_NAMES.get(key, key): value for key, value in manifest.items()}
    return {**renamed, "apiVersion": "v1"}


def from_stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a core Event as an `events.k8s.io/v1` one."""
    renamed = {_BACK.get(key, key): value for key, value in manifest.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"}
