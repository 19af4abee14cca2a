"""Durations as kubectl prints them in AGE columns."""

from __future__ import annotations

from datetime import UTC, datetime


def since(timestamp: str | None) -> str:
    """Return the time since an RFC 3339 timestamp, `<unknown>` for none, `<invalid>` for one that cannot be read."""
    if not timestamp:
        return "<unknown>"
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<invalid>"
    return human((datetime.now(UTC) - moment).total_seconds())


def human(seconds_passed: float) -> str:
    """Return the duration in at most two units: `42s`, `3m5s`, `5h20m`, `3d4h`, `2y15d`."""
    seconds = int(seconds_passed)
    if seconds < -1:
        return "<invalid>"
    if seconds < 0:
        return "0s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"
