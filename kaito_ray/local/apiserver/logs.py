"""`pods/log`: what lies in `<home>/pods/<namespace>_<pod>/<container>.log`, as a kubelet would serve it."""

from __future__ import annotations

import asyncio
import os
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
    """Yield the log, and with `follow` what is added to it, until the client goes away or the pod's folder does.

    `tailLines`, `sinceSeconds`, `sinceTime` and `limitBytes` cut it as they do on a real cluster. A line's time is the
    one written in it; lines without one count with the line before.
    """
    follow = query.get("follow") in ("true", "1")
    left = _number(query, "limitBytes")
    position = _start(path, query)
    while left is None or left > 0:
        chunk = _read(path, position)
        if chunk is None or not (chunk or follow):
            return
        position += len(chunk)
        if not chunk:
            await asyncio.sleep(_POLL_S)
            position = _unless_truncated(path, position)
            continue
        chunk = chunk[:left]
        left = None if left is None else left - len(chunk)
        yield chunk


def _start(path: Path, query: Mapping[str, str]) -> int:
    """Return the first byte that is wanted: the later of what `sinceSeconds` and `tailLines` say."""
    tail, since = _number(query, "tailLines"), _since(query)
    if not path.exists():
        return 0
    first = 0 if since is None else _first_since(path, since)
    return first if tail is None else max(first, _first_of_tail(path, tail))


def _read(path: Path, position: int) -> bytes | None:
    """Return what stands at a position, empty at the end; None where the pod's folder is gone."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b"" if path.parent.exists() else None


def _unless_truncated(path: Path, position: int) -> int:
    return 0 if path.exists() and path.stat().st_size < position else position


def _first_of_tail(path: Path, count: int) -> int:
    """Return where the last `count` lines begin, reading backwards."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        if count == 0 or end == 0:
            return end
        wanted = count + 1
        while position > 0:
            begin = max(0, position - _CHUNK)
            file.seek(begin)
            block = file.read(position - begin)
            if position == end and not block.endswith(b"\n"):
                wanted = count
            found = block.count(b"\n")
            if found >= wanted:
                for _ in range(wanted):
                    block = block[: block.rindex(b"\n")]
                return begin + len(block) + 1
            wanted -= found
            position = begin
    return 0


def _first_since(path: Path, since: datetime) -> int:
    """Return where the first line of that time or later begins; all of a log without times is wanted."""
    position, dated = 0, False
    with path.open("rb") as file:
        for line in file:
            moment = _moment(line)
            if moment is not None:
                dated = True
                if moment >= since:
                    return position
            position += len(line)
    return position if dated else 0


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


def _since(query: Mapping[str, str]) -> datetime | None:
    seconds = _number(query, "sinceSeconds")
    if seconds is not None:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    if "sinceTime" not in query:
        return None
    try:
        return datetime.fromisoformat(query["sinceTime"])
    except ValueError as error:
        raise bad_request(f"sinceTime must be an RFC 3339 time, not {query['sinceTime']!r}") from error


def _moment(line: bytes) -> datetime | None:
    match = _TIMESTAMP.search(line[:80])
    if not match:
        return None
    try:
        moment = datetime.fromisoformat(match[1].decode().replace(",", "."))
    except ValueError:
        return None
    return moment.astimezone(UTC)
