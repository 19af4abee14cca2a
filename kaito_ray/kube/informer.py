"""List, then watch, then mend: the loop behind `Cluster.watch`, apart from any network.

What the consumer sees is the truth in order: after a gap (lost connection, 410, time-out) it lists again and reports
only differences, so that nothing is missed and nothing is told twice.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import Change, Manifest

log = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.2
LAST_RETRY_S: Final = 10.0
UNKNOWN_KIND_RETRY_S: Final = 5.0
"""How often to look for a kind whose CRD is not installed yet."""


class Expired(Exception):
    """410 Gone: the version to watch from is too old; list again."""


@dataclass(frozen=True)
class Page:
    """All objects at one moment; `version` is None where the kind is unknown."""

    items: list[Manifest]
    version: str | None


async def follow(
    page: Callable[[], Awaitable[Page]],
    stream: Callable[[str], AsyncGenerator[Manifest, None]],
    *,
    what: str,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Change, None]:
    """Yield what `Cluster.watch` promises.

    `page` lists everything; `stream` yields raw watch events after a version and ends when the server ends it.
    Both raise ApiUnavailable; `stream` also raises Expired.
    """
    known: dict[tuple[str, str], Manifest] = {}
    synced = False
    version: str | None = None  # None: list before watching
    retry_s = FIRST_RETRY_S
    while True:
        try:
            if version is None:
                listed = await page()
                for change in _differences(known, listed.items):
                    yield change
                if not synced:
                    synced = True
                    yield Change("SYNCED", {})
                if listed.version is None:
                    await sleep(UNKNOWN_KIND_RETRY_S)
                    continue
                version = listed.version
            told = False
            async with aclosing(stream(version)) as events:
                async for event in events:
                    told, retry_s = True, FIRST_RETRY_S
                    if event["type"] == "ERROR":
                        raise _error(event["object"], what)
                    version = event["object"]["metadata"]["resourceVersion"]
                    if (noted := _noted(known, event)) is not None:
                        yield noted
            if not told:  # a server that hangs up at once must not be asked in a tight loop
                await sleep(FIRST_RETRY_S)
        except Expired:
            version = None
        except ApiUnavailable as error:
            log.info("watch interrupted", extra={"what": what, "error": str(error), "retry_s": retry_s})
            version = None
            await sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnects, guards nothing
            retry_s = min(retry_s * 2, LAST_RETRY_S)


def _key(item: Manifest) -> tuple[str, str]:
    meta = item["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _differences(known: dict[tuple[str, str], Manifest], items: list[Manifest]) -> list[Change]:
    """Return the changes from `known` to `items`, and bring `known` up to date."""
    now = {_key(item): item for item in items}
    changes = [Change("DELETED", gone) for key, gone in known.items() if key not in now]
    for key, item in now.items():
        old = known.get(key)
        if old is not None and old["metadata"]["uid"] != item["metadata"]["uid"]:
            changes += [Change("DELETED", old), Change("ADDED", item)]
        elif old is None:
            changes.append(Change("ADDED", item))
        elif old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            changes.append(Change("MODIFIED", item))
    known.clear()
    known.update(now)
    return changes


def _noted(known: dict[tuple[str, str], Manifest], event: Manifest) -> Change | None:
    """Return the change that a watch event tells, and bring `known` up to date; None for a bookmark."""
    kind, item = event["type"], event["object"]
    if kind == "BOOKMARK":
        return None
    if kind == "DELETED":
        known.pop(_key(item), None)
    else:
        known[_key(item)] = item
    return Change(kind, item)


def _error(status: Manifest, what: str) -> Exception:
    if status.get("code") == 410:
        return Expired()
    return ApiUnavailable(f"watch of {what} ended: {status.get('message', status)}")
