"""Watches: from the start, from a version, through selectors, as kubectl and kopf use them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client, watch

from tests.conformance.conftest import Raw, eventually, widget

MERGE = "application/merge-patch+json"
Event = dict[str, Any]


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def watching(api: client.ApiClient) -> Any:
    """A watch that runs beside the test; what it saw so far is in the list."""

    @contextmanager
    def begin(path: str, **query: str) -> Iterator[list[Event]]:
        seen: list[Event] = []
        started, closing = threading.Event(), threading.Event()
        text = "&".join(f"{key}={value}" for key, value in {"watch": "true", "timeoutSeconds": "20", **query}.items())
        headers: dict[str, str] = {}
        api.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        url = f"{api.configuration.host}{path}?{text}"
        response = api.rest_client.pool_manager.request("GET", url, headers=headers, preload_content=False)

        def read() -> None:
            started.set()
            buffer = b""
            try:
                for chunk in response.stream(amt=None, decode_content=False):
                    buffer += chunk
                    *lines, buffer = buffer.split(b"\n")
                    seen.extend(json.loads(line) for line in lines if line)
            except Exception as error:
                # Closing the connection from the other thread is how a test ends the watch.
                if not closing.is_set():
                    seen.append({"type": "CUT", "object": {"metadata": {"name": str(error)}}})

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        started.wait()
        yield seen
        closing.set()
        response.shutdown()
        response.close()
        thread.join(timeout=5)

    return begin


def told(seen: list[Event]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in seen]


def test_without_a_version_a_watch_begins_with_what_is_there(raw: Raw, ours: str, watching: Any) -> None:
    raw("POST", ours, widget("a"))
    with watching(ours) as seen:
        eventually(lambda: told(seen) == [("ADDED", "a")])
        raw("POST", ours, widget("b"))
        raw("PATCH", f"{ours}/b", {"spec": {"size": 4}}, type=MERGE)
        raw("DELETE", f"{ours}/a")
        eventually(lambda: told(seen) == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")])


def test_from_a_version_a_watch_tells_only_what_came_after(raw: Raw, ours: str, watching: Any) -> None:
    raw("POST", ours, widget("a"))
    version = raw("GET", ours)["metadata"]["resourceVersion"]
    raw("POST", ours, widget("b"))
    with watching(ours, resourceVersion=version) as seen:
        eventually(lambda: told(seen) == [("ADDED", "b")])


def test_versions_only_grow_and_a_deletion_has_its_own(raw: Raw, ours: str, watching: Any) -> None:
    with watching(ours) as seen:
        made = raw("POST", ours, widget("a"))
        raw("DELETE", f"{ours}/a")
        eventually(lambda: len(seen) == 2)
    first, last = (int(event["object"]["metadata"]["resourceVersion"]) for event in seen)
    assert first == int(made["metadata"]["resourceVersion"])
    assert last > first


def test_a_change_of_labels_moves_an_object_in_and_out_of_a_selector(raw: Raw, ours: str, watching: Any) -> None:
    raw("POST", ours, widget("a"))
    with watching(ours, labelSelector="in%3Dyes") as seen:
        for value in ("yes", "yes", "no"):
            raw(
                "PATCH",
                f"{ours}/a",
                {"metadata": {"labels": {"in": value}}, "spec": {"tags": {"n": value + str(len(seen))}}},
                type=MERGE,
            )
            eventually(lambda: seen)
        eventually(lambda: told(seen)[-1][0] == "DELETED")
    assert {kind for kind, _ in told(seen)} <= {"ADDED", "MODIFIED", "DELETED"}
    assert told(seen)[0] == ("ADDED", "a")


def test_one_object_can_be_watched_by_name(raw: Raw, ours: str, watching: Any) -> None:
    raw("POST", ours, widget("a"))
    raw("POST", ours, widget("b"))
    with watching(ours, fieldSelector="metadata.name%3Db") as seen:
        raw("DELETE", f"{ours}/a")
        raw("DELETE", f"{ours}/b")
        eventually(lambda: told(seen) == [("ADDED", "b"), ("DELETED", "b")])


def test_initial_events_end_with_a_bookmark(raw: Raw, ours: str, watching: Any) -> None:
    raw("POST", ours, widget("a"))
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with watching(ours, **query) as seen:
        eventually(lambda: len(seen) == 2)
    assert told(seen)[0] == ("ADDED", "a")
    mark = seen[1]["object"]
    assert seen[1]["type"] == "BOOKMARK"
    assert mark["kind"] == "Widget"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["metadata"]["resourceVersion"]) >= int(seen[0]["object"]["metadata"]["resourceVersion"])


def test_a_watch_ends_in_time(raw: Raw, ours: str, watching: Any) -> None:
    with watching(ours, timeoutSeconds="1") as seen:
        raw("POST", ours, widget("a"))
        eventually(lambda: seen)
    assert told(seen) == [("ADDED", "a")]


def test_the_python_client_watches_built_in_kinds(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "mine"}, "data": {"a": "b"}})
    stream = watch.Watch().stream(
        core.list_namespaced_config_map, namespace, field_selector="metadata.name=mine", timeout_seconds=1
    )
    assert [(event["type"], event["object"].data) for event in stream] == [("ADDED", {"a": "b"})]


def test_a_version_from_the_future_is_refused(raw: Raw, ours: str) -> None:
    answer = raw.refused("GET", ours, resourceVersion="99999999999", resourceVersionMatch="NotOlderThan")
    assert answer["code"] == 504
    assert "Too large resource version" in answer["message"]
