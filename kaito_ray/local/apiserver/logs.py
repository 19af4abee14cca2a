"""`pods/log`: what lies in `<home>/pods/<namespace>_<pod>/<container>.log`, as a kubelet would serve it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kaito_ray.local.apiserver.status import ApiError, bad_request

_POLL_S: Final = 0.5
_CHUNK: Final = 1 << 16
_TIMESTAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)")


def container_of(pod: Mapping[str, Any], asked: str) -> str:
    """Return the container whose log is meant.

    Raises:
        ApiError: 400, where none is named and there are several, or there is none of that name.
    """
    name = pod["metadata"]["name"]
    spec = pod.get("spec") or {}
    names = [one["name"] for one in spec.get("containers") or ()]
    every = [*names, *(one["name"] for one in spec.get("initContainers") or ())]
    if asked:
        if asked not in every:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(names) == 1:
        return str(names[0])
    listed = " ".join(names)
    raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{listed}]")


def path_of(home: Path, namespace: str, pod: str, container: str) -> Path:
    """Return the file of a container's log."""
    return home / "pods" / f"{namespace}_{pod}" / f"{container}.log"


async def lines(path: Path, query: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Yield the log, and with `follow` what is added to it, until the client goes away.

    `tailLines`, `sinceSeconds`, `sinceTime` and `limitBytes` cut it as they do on a real cluster. A line's time is the
    one written in it; lines without one count with the line before.
    """
    follow = query.get("follow") in ("true", "1")
    limit = _number(query, "limitBytes")
    text = path.read_bytes() if path.exists() else b""
    position = len(text)
    text = _tail(_since(text, query), _number(query, "tailLines"))
    if limit is not None:
        text = text[:limit]
    yield text
    left = None if limit is None else limit - len(text)
    while follow and (left is None or left > 0):
        await asyncio.sleep(_POLL_S)
        if not path.parent.exists():
            return
        if not path.exists():
            continue
        position = 0 if path.stat().st_size < position else position
        with path.open("rb") as file:
            file.seek(position)
            chunk = file.read(_CHUNK)
        position += len(chunk)
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        if chunk:
            yield chunk


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        value = int(query[name])
    except ValueError as error:
        raise bad_request(f"{name} must be a number, not {query[name]!r}") from error
    if value < 0:
        raise ApiError(
            422,
            "Invalid",
            f'PodLogOptions "" is invalid: {name}: Invalid value: {value}: must be greater than or equal to 0',
        )
    return value


def _tail(text: bytes, count: int | None) -> bytes:
    if count is None:
        return text
    return b"".join(text.splitlines(keepends=True)[-count:]) if count else b""


def _since(text: bytes, query: Mapping[str, str]) -> bytes:
    seconds = _number(query, "sinceSeconds")
    if seconds is not None:
        start = datetime.now(UTC) - timedelta(seconds=seconds)
    elif "sinceTime" in query:
        start = datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00"))
    else:
        return text
    kept: list[bytes] = []
    keep = False
    dated = False
    for line in text.splitlines(keepends=True):
        moment = _moment(line)
        if moment is not None:
            dated, keep = True, moment >= start
        if keep:
            kept.append(line)
    return b"".join(kept) if dated else text


def _moment(line: bytes) -> datetime | None:
    match = _TIMESTAMP.search(line[:80])
    if not match:
        return None
    try:
        moment = datetime.fromisoformat(match[1].decode().replace(",", ".").replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment.astimezone(UTC)
