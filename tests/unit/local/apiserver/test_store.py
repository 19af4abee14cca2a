"""The store: versions, conflicts, transactions, the log and its tail."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kaito_ray.local.apiserver.selectors import projection
from kaito_ray.local.apiserver.store import Stale, Store


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(Path(":memory:"), projection)
    yield made
    made.close()


def thing(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}"}, **more}


def version(manifest: dict[str, Any]) -> int:
    return int(manifest["metadata"]["resourceVersion"])


def test_versions_are_one_sequence_for_all(store: Store) -> None:
    first, second = store.put("k", thing("a"), None), store.put("other", thing("b"), None)
    gone = store.remove("k", "n", "a", version(first))
    assert (version(first), version(second), version(gone)) == (1, 2, 3)
    assert store.version() == 3


def test_a_write_against_another_version_is_stale(store: Store) -> None:
    first = store.put("k", thing("a"), None)
    with pytest.raises(Stale):
        store.put("k", thing("a"), None)
    store.put("k", thing("a", x=1), version(first))
    with pytest.raises(Stale):
        store.put("k", thing("a", x=2), version(first))
    with pytest.raises(Stale):
        store.remove("k", "n", "a", version(first))
    assert (store.get("k", "n", "a") or {})["x"] == 1


def test_a_transaction_happens_whole_or_not_at_all(store: Store) -> None:
    def two() -> None:
        with store.transaction():
            store.put("k", thing("a"), None)
            store.put("k", thing("a"), None)

    with pytest.raises(Stale):
        two()
    assert store.get("k", "n", "a") is None
    assert store.log(0) == []


def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    store = Store(tmp_path / "db", projection)
    store.put("k", thing("a"), None)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.put("k", thing("b", data="x" * 100_000), None)
    assert store.get("k", "n", "b") is None
    store._db.execute("PRAGMA max_page_count = 100000")
    store.put("k", thing("b", data="x" * 100_000), None)
    assert [entry.name for entry in store.log(0)] == ["a", "b"]
    store.close()


def test_the_log_tells_what_was_and_what_is(store: Store) -> None:
    first = store.put("k", {**thing("a"), "status": {"phase": "Up"}}, None)
    second = store.put("k", {**thing("a"), "status": {"phase": "Down"}}, version(first))
    store.remove("k", "n", "a", version(second))
    added, modified, deleted = store.log(0, "k")
    assert [one.type for one in (added, modified, deleted)] == ["ADDED", "MODIFIED", "DELETED"]
    assert added.before is None
    assert (modified.before or {})["status"]["phase"] == "Up"
    assert deleted.body["status"]["phase"] == "Down"
    assert version(deleted.body) == deleted.version


def test_the_tail_of_the_log_is_cut_and_remembered(store: Store) -> None:
    for name in "abcde":
        store.put("k", thing(name), None)
    store.compact(keep_events=2)
    assert store.compacted() == 3
    assert [entry.name for entry in store.log(0)] == ["d", "e"]
    store.compact(keep_events=0)
    store.put("k", thing("f"), None)
    assert store.version() == 6


def test_owners_are_found_by_uid(store: Store) -> None:
    child = thing("child")
    child["metadata"]["ownerReferences"] = [{"uid": "uid-a"}, {"uid": "uid-b"}]
    stored = store.put("k", child, None)
    assert store.places(owner="uid-a") == [("k", "n", "child")]
    del child["metadata"]["ownerReferences"][0]
    store.put("k", child, version(stored))
    assert store.places(owner="uid-a") == []
    assert store.places(owner="uid-b") == [("k", "n", "child")]


def test_waiters_hear_of_their_kind_alone(store: Store) -> None:
    with store.changes("k") as mine, store.changes() as all_of_them:
        store.put("other", thing("a"), None)
        assert (mine.is_set(), all_of_them.is_set()) == (False, True)
        store.put("k", thing("a"), None)
        assert mine.is_set()


class Replay(RuleBasedStateMachine):
    """Whoever follows the log from the start holds what the store holds."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Path(":memory:"), projection)
        self.seen = 0
        self.replica: dict[str, dict[str, Any]] = {}

    @rule(name=st.sampled_from("abc"), value=st.integers(0, 3))
    def put(self, name: str, value: int) -> None:
        current = self.store.get("k", "n", name)
        self.store.put("k", thing(name, value=value), version(current) if current else None)

    @rule(name=st.sampled_from("abc"))
    def remove(self, name: str) -> None:
        current = self.store.get("k", "n", name)
        if current:
            self.store.remove("k", "n", name, version(current))

    @rule()
    def follow(self) -> None:
        for entry in self.store.log(self.seen):
            self.seen = entry.version
            if entry.type == "DELETED":
                del self.replica[entry.name]
            else:
                assert (entry.type == "ADDED") is (entry.name not in self.replica)
                self.replica[entry.name] = entry.body

    @invariant()
    def replica_is_true(self) -> None:
        self.follow()
        assert [self.replica[name] for name in sorted(self.replica)] == list(self.store.scan("k"))

    def teardown(self) -> None:
        self.store.close()


TestReplay = Replay.TestCase
TestReplay.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_clock_that_is_set_loses_no_object_and_keeps_the_log_within_bounds(
    store: Store, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock = [time.time()]
    monkeypatch.setattr("kaito_ray.local.apiserver.store.time.time", lambda: clock[0])
    for name in "abc":
        store.put("k", thing(name), None)
    clock[0] += jump_s
    store.put("k", thing("d"), None)
    store.compact(keep_events=2)
    assert store.compacted() >= 2
    assert [entry.version for entry in store.log(store.compacted())][-1] == store.version() == 4
    assert all(store.get("k", "n", name) for name in "abcd")
