"""The verbs that read: get, and list with selectors and chunks."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kaito_ray.local.apiserver.call import Call, Manifest
from kaito_ray.local.apiserver.conform import viewed
from kaito_ray.local.apiserver.status import ApiError, bad_request, expired, not_found
from kaito_ray.local.apiserver.store import Store

_KEPT_LISTS: Final = 16
"""Unfinished lists that are kept for their next chunk; an older one is answered with 410, and begun anew."""


@dataclass(frozen=True)
class Page:
    """One answer to a list."""

    version: str
    items: list[Manifest]
    token: str = ""
    remaining: int | None = None


class Reader:
    """Answers reads. A list in chunks is one snapshot, whatever is written meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unfinished: OrderedDict[str, tuple[str, list[Manifest]]] = OrderedDict()

    def get(self, call: Call) -> Manifest:
        """Return the object.

        Raises:
            ApiError: 404.
        """
        found = self._store.get(*call.place)
        if found is None:
            raise not_found(call.kind, call.name)
        return viewed(found, call.kind)

    def list(self, call: Call) -> Page:
        """Return all that is selected, or the next chunk of it.

        Raises:
            ApiError: 400 for a parameter that cannot be read, 410 for a chunk whose list is no longer kept.
        """
        limit = _limit(call)
        token = call.query.get("continue", "")
        if token:
            if token not in self._unfinished:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new "
                    "list without the continue parameter."
                )
            version, found = self._unfinished[token]
        else:
            self.check_version(call)
            version, found = str(self._store.version()), list(self.selected(call))
        items, rest = (found[:limit], found[limit:]) if limit else (found, [])
        if not rest:
            return Page(version, items)
        following = secrets.token_urlsafe(24)
        self._unfinished[following] = (version, rest)
        while len(self._unfinished) > _KEPT_LISTS:
            self._unfinished.popitem(last=False)
        return Page(version, items, following, None if call.selects else len(rest))

    def selected(self, call: Call) -> Iterator[Manifest]:
        """Yield what the selectors of a call admit, in the version that it asks for."""
        selector = call.selector()
        for manifest in self._store.scan(call.kind.key, call.namespace):
            if selector(manifest):
                yield viewed(manifest, call.kind)

    def check_version(self, call: Call) -> int | None:
        """Return the resourceVersion of a query, None where there is none.

        Raises:
            ApiError: 400 where it is no number, 504 where it lies in the future.
        """
        text = call.query.get("resourceVersion", "")
        if not text:
            return None
        if not text.isdigit():
            raise bad_request(f"invalid resourceVersion: {text!r}: must be a number that this server gave out")
        if int(text) > self._store.version():
            message = f"Timeout: Too large resource version: {text}, current: {self._store.version()}"
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            raise ApiError(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})
        return int(text)


def _limit(call: Call) -> int:
    text = call.query.get("limit", "") or "0"
    if not text.isdigit():
        raise bad_request(f"limit must be a number, not {text!r}")
    return int(text)
