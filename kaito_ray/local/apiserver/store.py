"""Objects and the log of their changes, in one SQLite file.

Every write is one transaction: it takes the next number of the log as resourceVersion and changes the object. With
`synchronous=FULL` a write that was answered is on disk. Watches read the log; what is cut off its tail is answered
with 410 Gone.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

KEEP_EVENTS: Final = 10_000
"""Log entries that are kept however old they are: at most this many ..."""
KEEP_S: Final = 600.0
"""... and none longer than this many seconds."""
COMPACT_EVERY: Final = 500
"""Writes between two looks at what can be cut."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    uid TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_by_uid ON objects (uid);
CREATE TABLE IF NOT EXISTS owners (
    owner TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (owner, kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    version INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    type TEXT NOT NULL, body TEXT NOT NULL, before TEXT
);
CREATE INDEX IF NOT EXISTS log_by_kind ON log (kind, version);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One line of the log. `before` is what selectors can see of the object as it was, None for a new one."""

    version: int
    kind: str
    namespace: str
    name: str
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    body: Manifest
    before: Manifest | None


class Stale(Exception):
    """The object is not in the version that the writer had read."""


class Store:
    """The one writer of the database. Not thread-safe: all calls come from the event loop."""

    def __init__(self, path: Path, projection: Callable[[Mapping[str, Any]], Manifest]) -> None:
        self._projection = projection
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._writing = False
        self.ending = False
        """Set when the server is about to end: whoever waits for changes should stop."""
        self._changed: set[str] = set()
        self._waiting: set[tuple[str | None, asyncio.Event]] = set()

    def close(self) -> None:
        """Close the file; pending changes are on disk already."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several writes one: all of them happen, or none. Nests."""
        if self._writing:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._writing = True
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._changed.clear()
            if self._db.in_transaction:  # SQLite may have rolled back by itself: on a full disk it does
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._writing = False
        self._announce()

    def version(self) -> int:
        """Return the number of the newest change, 0 for an empty store."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'log'").fetchone()
        return int(row[0]) if row else 0

    def compacted(self) -> int:
        """Return the newest version that is no longer in the log."""
        row = self._db.execute("SELECT value FROM facts WHERE name = 'compacted'").fetchone()
        return int(row[0]) if row else 0

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Return the object, or None."""
        row = self._db.execute(
            "SELECT body FROM objects WHERE kind = ? AND namespace = ? AND name = ?", (kind, namespace, name)
        ).fetchone()
        return _loads(row[0]) if row else None

    def by_uid(self, uid: str) -> Manifest | None:
        """Return the object with this uid, or None."""
        row = self._db.execute("SELECT body FROM objects WHERE uid = ?", (uid,)).fetchone()
        return _loads(row[0]) if row else None

    def scan(self, kind: str, namespace: str | None = None, after: tuple[str, str] = ("", "")) -> Iterator[Manifest]:
        """Yield objects in the order of namespace and name, those after `after`; all namespaces where none is named."""
        where = "kind = ? AND (namespace, name) > (?, ?)" + (" AND namespace = ?" if namespace is not None else "")
        values = (kind, *after, *((namespace,) if namespace is not None else ()))
        rows = self._db.execute(f"SELECT body FROM objects WHERE {where} ORDER BY namespace, name", values)  # noqa: S608 - constants
        for (body,) in rows.fetchall():
            yield _loads(body)

    def count(self, kind: str | None = None, namespace: str | None = None) -> int:
        """Return how many objects there are of a kind, or in a namespace."""
        column, value = ("kind", kind) if kind is not None else ("namespace", namespace)
        return int(self._db.execute(f"SELECT count(*) FROM objects WHERE {column} = ?", (value,)).fetchone()[0])  # noqa: S608 - constants

    def places(self, namespace: str | None = None, owner: str | None = None) -> list[tuple[str, str, str]]:
        """Return (kind, namespace, name) of all objects, of those in a namespace, or of those that an owner owns."""
        if owner is not None:
            rows = self._db.execute("SELECT kind, namespace, name FROM owners WHERE owner = ?", (owner,))
        elif namespace is not None:
            rows = self._db.execute("SELECT kind, namespace, name FROM objects WHERE namespace = ?", (namespace,))
        else:
            rows = self._db.execute("SELECT kind, namespace, name FROM objects")
        return [(kind, space, name) for kind, space, name in rows.fetchall()]

    def put(self, kind: str, manifest: Manifest, expected: int | None) -> Manifest:
        """Store the object and return it with its new resourceVersion.

        `expected` is the version that it replaces, None for a new one.

        Raises:
            Stale: the stored object has another version, or there is one where none was expected, or none.
        """
        meta = manifest["metadata"]
        namespace, name = meta.get("namespace", ""), meta["name"]
        with self.transaction():
            before = self.get(kind, namespace, name)
            if expected != (int(before["metadata"]["resourceVersion"]) if before else None):
                raise Stale
            version = self._log((kind, namespace, name), "MODIFIED" if before else "ADDED", manifest, before)
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                (kind, namespace, name, meta["uid"], version, _dumps(manifest)),
            )
            self._db.execute(
                "DELETE FROM owners WHERE kind = ? AND namespace = ? AND name = ?", (kind, namespace, name)
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO owners VALUES (?, ?, ?, ?)",
                [(owner["uid"], kind, namespace, name) for owner in meta.get("ownerReferences") or ()],
            )
        return manifest

    def remove(self, kind: str, namespace: str, name: str, expected: int) -> Manifest:
        """Remove the object and return it as it was, with the version of its removal.

        Raises:
            Stale: it is gone, or in another version than `expected`.
        """
        with self.transaction():
            before = self.get(kind, namespace, name)
            if before is None or int(before["metadata"]["resourceVersion"]) != expected:
                raise Stale
            gone = _loads(_dumps(before))
            self._log((kind, namespace, name), "DELETED", gone, before)
            where = "kind = ? AND namespace = ? AND name = ?"
            self._db.execute(f"DELETE FROM objects WHERE {where}", (kind, namespace, name))  # noqa: S608 - constants
            self._db.execute(f"DELETE FROM owners WHERE {where}", (kind, namespace, name))  # noqa: S608 - constants
        return gone

    def log(self, after: int, kind: str | None = None, limit: int = 500) -> list[Entry]:
        """Return entries newer than `after`, oldest first: of one kind, or of all."""
        where = "version > ?" + (" AND kind = ?" if kind is not None else "")
        values = (after, *((kind,) if kind is not None else ()), limit)
        rows = self._db.execute(
            f"SELECT version, kind, namespace, name, type, body, before FROM log WHERE {where} "  # noqa: S608 - constants
            "ORDER BY version LIMIT ?",
            values,
        )
        return [
            Entry(version, place, namespace, name, what, _loads(body), _loads(before) if before else None)
            for version, place, namespace, name, what, body, before in rows.fetchall()
        ]

    @contextmanager
    def changes(self, kind: str | None = None) -> Iterator[asyncio.Event]:
        """Hand out an Event that is set whenever an object of that kind (or any) changed."""
        waiter = (kind, asyncio.Event())
        self._waiting.add(waiter)
        try:
            yield waiter[1]
        finally:
            self._waiting.discard(waiter)

    def end_waits(self) -> None:
        """Wake all who wait for changes, for the last time."""
        self.ending = True
        for _, event in self._waiting:
            event.set()

    def compact(self, keep_events: int = KEEP_EVENTS, keep_s: float = KEEP_S) -> None:
        """Cut the tail of the log."""
        newest = self.version()
        with self.transaction():
            row = self._db.execute(
                "SELECT max(version) FROM log WHERE at < ? OR version <= ?",
                (time.time() - keep_s, newest - keep_events),
            ).fetchone()
            if row[0] is not None:
                self._db.execute("DELETE FROM log WHERE version <= ?", (row[0],))
                self._db.execute("INSERT OR REPLACE INTO facts VALUES ('compacted', ?)", (row[0],))

    def _log(self, place: tuple[str, str, str], what: str, manifest: Manifest, before: Manifest | None) -> int:
        seen = _dumps(self._projection(before)) if before is not None else None
        cursor = self._db.execute(
            "INSERT INTO log (at, kind, namespace, name, type, body, before) VALUES (?, ?, ?, ?, ?, '', ?)",
            (time.time(), *place, what, seen),
        )
        version = int(cursor.lastrowid or 0)
        manifest["metadata"]["resourceVersion"] = str(version)
        self._db.execute("UPDATE log SET body = ? WHERE version = ?", (_dumps(manifest), version))
        self._changed.add(place[0])
        if version % COMPACT_EVERY == 0:
            self.compact()
        return version

    def _announce(self) -> None:
        changed, self._changed = self._changed, set()
        for kind, event in self._waiting:
            if changed and (kind is None or kind in changed):
                event.set()


def _loads(text: str) -> Manifest:
    loaded: Manifest = json.loads(text)
    return loaded


def _dumps(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
