"""Lists: selectors, chunks, and what stands in them."""

from __future__ import annotations

import pytest
from kubernetes import client

from tests.conformance.conftest import Raw, widget


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def maps(raw: Raw, namespace: str) -> str:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name, labels in (("a", {"app": "x", "tier": "one"}), ("b", {"app": "x", "tier": "two"}), ("c", {"app": "y"})):
        raw("POST", path, {"metadata": {"name": name, "labels": labels}})
    return path


def names(answer: dict[str, object]) -> list[str]:
    return [item["metadata"]["name"] for item in answer["items"] if item["metadata"]["name"] != "kube-root-ca.crt"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("app=x", ["a", "b"]),
        ("app==x,tier!=one", ["b"]),
        ("app in (x,y)", ["a", "b", "c"]),
        ("app,tier notin (one)", ["b", "c"]),
        ("app,!tier", ["c"]),
        ("tier", ["a", "b"]),
        ("app=nothing", []),
    ],
)  # fmt: skip
def test_label_selectors(raw: Raw, maps: str, selector: str, found: list[str]) -> None:
    assert names(raw("GET", maps, labelSelector=selector.replace(" ", "%20"))) == found


def test_a_selector_that_cannot_be_read_is_refused(raw: Raw, maps: str) -> None:
    assert raw.refused("GET", maps, labelSelector="app%20in")["code"] == 400
    assert raw.refused("GET", maps, fieldSelector="data.x%3D1")["code"] == 400


def test_field_selectors_by_name(raw: Raw, maps: str, namespace: str) -> None:
    assert names(raw("GET", maps, fieldSelector="metadata.name%3Db")) == ["b"]
    assert names(raw("GET", maps, fieldSelector=f"metadata.namespace%3D{namespace},metadata.name!%3Db")) == ["a", "c"]


def test_events_are_found_by_what_they_are_about(core: client.CoreV1Api, namespace: str) -> None:
    for name in ("x", "y"):
        involved = {"kind": "ConfigMap", "name": name, "namespace": namespace, "apiVersion": "v1"}
        core.create_namespaced_event(namespace, {"metadata": {"name": f"e-{name}"}, "involvedObject": involved})
    selector = "involvedObject.name=x,involvedObject.kind=ConfigMap"
    found = core.list_namespaced_event(namespace, field_selector=selector).items
    assert [event.metadata.name for event in found] == ["e-x"]


def test_a_list_in_chunks_is_one_snapshot(raw: Raw, ours: str) -> None:
    for index in range(7):
        raw("POST", ours, widget(f"w{index}"))
    first = raw("GET", ours, limit="3")
    assert names(first) == ["w0", "w1", "w2"]
    assert first["metadata"]["remainingItemCount"] == 4
    raw("POST", ours, widget("w31"))
    raw("DELETE", f"{ours}/w5")
    second = raw("GET", ours, limit="3", **{"continue": first["metadata"]["continue"]})
    third = raw("GET", ours, limit="3", **{"continue": second["metadata"]["continue"]})
    assert names(second) + names(third) == ["w3", "w4", "w5", "w6"]
    assert third["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in third["metadata"]


def test_a_list_of_ours_names_its_kind(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    answer = raw("GET", ours)
    assert answer["kind"] == "WidgetList"
    assert answer["items"][0]["kind"] == "Widget"


def test_metadata_alone_can_be_asked_for(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    answer = raw("GET", ours, accept="application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
    assert answer["kind"] == "PartialObjectMetadataList"
    assert set(answer["items"][0]) == {"kind", "apiVersion", "metadata"}
