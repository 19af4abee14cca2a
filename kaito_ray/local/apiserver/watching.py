"""Watch: what is there, then each change, as seen through selectors."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver.call import Call, Manifest
from kaito_ray.local.apiserver.conform import viewed
from kaito_ray.local.apiserver.reading import Reader
from kaito_ray.local.apiserver.selectors import Selector
from kaito_ray.local.apiserver.status import ApiError, FieldError, bad_request, expired, invalid
from kaito_ray.local.apiserver.store import Entry, Store

BOOKMARK_EVERY_S: Final = 60.0
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}

Event = dict[str, Any]


def start(store: Store, reader: Reader, call: Call) -> AsyncIterator[Event]:
    """Return the stream of events of a watch.

    Raises:
        ApiError: the query cannot be read; later trouble (410 after compaction) comes as an ERROR event.
    """
    since = reader.check_version(call)
    selector = call.selector()
    initial = call.query.get("sendInitialEvents")
    if initial is not None and call.query.get("resourceVersionMatch") != "NotOlderThan":
        words = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise invalid(None, "", [FieldError("FieldValueForbidden", "sendInitialEvents", f"Forbidden: {words}")])
    return _events(store, reader, call, selector, since)


async def _events(
    store: Store, reader: Reader, call: Call, selector: Selector, since: int | None
) -> AsyncIterator[Event]:
    deadline = time.monotonic() + _timeout_s(call)
    bookmarks = call.flag("allowWatchBookmarks")
    wants_initial = call.flag("sendInitialEvents")
    with store.changes(call.kind.key) as changed:
        if wants_initial or (not since and "sendInitialEvents" not in call.query):
            seen = store.version()
            for manifest in list(reader.selected(call)):
                yield {"type": "ADDED", "object": manifest}
            if wants_initial and bookmarks:
                yield _bookmark(call, seen, _INITIAL_END)
        else:
            seen = since or store.version()
        told, next_bookmark = seen, time.monotonic() + BOOKMARK_EVERY_S
        while True:
            changed.clear()
            if seen < store.compacted():
                yield _too_old(seen, store.compacted())
                return
            entries = store.log(seen, call.kind.key)
            for entry in entries:
                seen = entry.version
                event = _event(entry, call, selector)
                if event is not None:
                    told = seen
                    yield event
            if entries:
                continue
            now = time.monotonic()
            if now >= deadline or store.ending:
                return
            if bookmarks and now >= next_bookmark:
                next_bookmark = now + BOOKMARK_EVERY_S
                seen = max(seen, store.version())
                if seen > told:
                    told = seen
                    yield _bookmark(call, seen, {})
            wait_s = min(deadline, next_bookmark if bookmarks else deadline) - now
            try:
                async with asyncio.timeout(max(wait_s, 0.01)):
                    await changed.wait()
            except TimeoutError:
                continue


def _event(entry: Entry, call: Call, selector: Selector) -> Event | None:
    """Return what a watcher sees of a change: an object that comes to match is ADDED, one that ceases to is DELETED."""
    if call.namespace is not None and entry.namespace != call.namespace:
        return None
    matched = entry.before is not None and selector(entry.before)
    matches = entry.type != "DELETED" and selector(entry.body)
    if not matched and not matches:
        return None
    seen_as = "MODIFIED" if matched and matches else "ADDED" if matches else "DELETED"
    return {"type": seen_as, "object": viewed(entry.body, call.kind)}


def _bookmark(call: Call, version: int, annotations: Mapping[str, str]) -> Event:
    meta: Manifest = {"resourceVersion": str(version), "creationTimestamp": None}
    if annotations:
        meta["annotations"] = dict(annotations)
    kind = call.kind
    return {"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}}


def _too_old(version: int, compacted: int) -> Event:
    error: ApiError = expired(f"too old resource version: {version} ({compacted})")
    return {"type": "ERROR", "object": error.body}


def _timeout_s(call: Call) -> float:
    text = call.query.get("timeoutSeconds", "")
    if not text:
        return random.uniform(1800, 3600)  # noqa: S311 - spreads reconnects, as a kube-apiserver does
    if not text.isdigit():
        raise bad_request(f"timeoutSeconds must be a number, not {text!r}")
    return float(text) or random.uniform(1800, 3600)  # noqa: S311 - as above
