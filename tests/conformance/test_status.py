"""The status subresource: what it may change, what it may not, and the generation."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import Raw, widget

MERGE = "application/merge-patch+json"


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


def test_status_in_a_created_object_is_dropped(raw: Raw, ours: str) -> None:
    assert "status" not in raw("POST", ours, {**widget(), "status": {"phase": "Lying"}})


def test_the_main_resource_cannot_change_status(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    raw("PATCH", f"{ours}/a/status", {"status": {"phase": "True"}}, type=MERGE)
    read = raw("GET", f"{ours}/a")
    changed = raw("PUT", f"{ours}/a", {**read, "status": {"phase": "Lying"}, "spec": {"size": 5}})
    assert (changed["status"], changed["spec"]["size"]) == ({"phase": "True"}, 5)
    assert raw("PATCH", f"{ours}/a", {"status": None}, type=MERGE)["status"] == {"phase": "True"}


def test_status_cannot_change_anything_else(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    body = {**read, "spec": {"size": 9}, "status": {"phase": "Up"}}
    body["metadata"] = {**read["metadata"], "labels": {"x": "y"}, "finalizers": ["conformance.dev/x"]}
    written = raw("PUT", f"{ours}/a/status", body)
    assert (written["status"], written["spec"]["size"]) == ({"phase": "Up"}, 3)
    assert "finalizers" not in written["metadata"]
    assert "labels" not in written["metadata"]


def test_generation_counts_changes_of_the_spec_alone(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    labelled = raw("PATCH", f"{ours}/a", {"metadata": {"labels": {"x": "y"}}}, type=MERGE)
    assert labelled["metadata"]["generation"] == 1
    assert raw("PATCH", f"{ours}/a/status", {"status": {"phase": "Up"}}, type=MERGE)["metadata"]["generation"] == 1
    assert raw("PATCH", f"{ours}/a", {"spec": {"size": 4}}, type=MERGE)["metadata"]["generation"] == 2


def test_a_stale_status_is_a_conflict(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    raw("PUT", f"{ours}/a/status", {**read, "status": {"phase": "One"}})
    assert raw.refused("PUT", f"{ours}/a/status", {**read, "status": {"phase": "Two"}})["code"] == 409


def test_status_is_validated_too(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    answer = raw.refused("PATCH", f"{ours}/a/status", {"status": {"phase": 7}}, type=MERGE)
    assert "status.phase: Invalid value" in answer["message"]
