"""Finalizers, owners, and namespaces: what goes, what stays, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import Raw, eventually, widget

MERGE = "application/merge-patch+json"
FINALIZER = "conformance.kaito-ray.dev/hold"


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def gone(raw: Raw, path: str) -> bool:
    return raw.full("GET", path)[0] == 404


def owned(name: str, *owners: dict[str, Any], **more: Any) -> dict[str, Any]:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            **more,
        }
        for owner in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references}}


def delete(raw: Raw, path: str, policy: str) -> dict[str, Any]:
    return raw("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy})


def test_a_finalizer_holds_the_object_and_the_last_one_lets_it_go(raw: Raw, ours: str) -> None:
    body = widget()
    body["metadata"]["finalizers"] = [FINALIZER]
    raw("POST", ours, body)
    held = raw("DELETE", f"{ours}/a")
    assert held["kind"] == "Widget"
    assert held["metadata"]["deletionTimestamp"]
    again = raw("DELETE", f"{ours}/a")
    assert again["metadata"]["deletionTimestamp"] == held["metadata"]["deletionTimestamp"]
    refused = raw.refused("PATCH", f"{ours}/a", {"metadata": {"finalizers": [FINALIZER, "x.dev/y"]}}, type=MERGE)
    assert refused["code"] == 422
    assert "no new finalizers can be added if the object is being deleted" in refused["message"]
    raw("PATCH", f"{ours}/a", {"metadata": {"finalizers": None}}, type=MERGE)
    assert gone(raw, f"{ours}/a")


def test_in_the_background_the_owner_goes_first(raw: Raw, ours: str, maps: str) -> None:
    owner = raw("POST", ours, widget())
    raw("POST", maps, owned("child", owner))
    delete(raw, f"{ours}/a", "Background")
    assert gone(raw, f"{ours}/a")
    eventually(lambda: gone(raw, f"{maps}/child"))


def test_in_the_foreground_the_owner_waits_for_its_dependents(raw: Raw, ours: str, maps: str) -> None:
    owner = raw("POST", ours, widget())
    child = owned("child", owner, blockOwnerDeletion=True, controller=True)
    child["metadata"]["finalizers"] = [FINALIZER]
    raw("POST", maps, child)
    held = delete(raw, f"{ours}/a", "Foreground")
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
    eventually(lambda: raw("GET", f"{maps}/child")["metadata"].get("deletionTimestamp"))
    assert not gone(raw, f"{ours}/a")
    raw("PATCH", f"{maps}/child", {"metadata": {"finalizers": None}}, type=MERGE)
    eventually(lambda: gone(raw, f"{ours}/a"))


def test_orphans_lose_their_owner_and_stay(raw: Raw, ours: str, maps: str) -> None:
    owner = raw("POST", ours, widget())
    raw("POST", maps, owned("child", owner))
    delete(raw, f"{ours}/a", "Orphan")
    eventually(lambda: gone(raw, f"{ours}/a"))
    assert not raw("GET", f"{maps}/child")["metadata"].get("ownerReferences")


def test_a_dependent_of_two_stays_while_one_of_them_does(raw: Raw, ours: str, maps: str) -> None:
    first, second = raw("POST", ours, widget("a")), raw("POST", ours, widget("b"))
    raw("POST", maps, owned("child", first, second))
    delete(raw, f"{ours}/a", "Background")
    eventually(lambda: len(raw("GET", f"{maps}/child")["metadata"]["ownerReferences"]) == 1)
    delete(raw, f"{ours}/b", "Background")
    eventually(lambda: gone(raw, f"{maps}/child"))


def test_a_chain_of_owners_goes_whole(raw: Raw, ours: str, maps: str) -> None:
    first = raw("POST", ours, widget())
    second = raw("POST", maps, owned("middle", first))
    raw("POST", maps, owned("last", {"apiVersion": "v1", "kind": "ConfigMap", **second}))
    delete(raw, f"{ours}/a", "Background")
    eventually(lambda: gone(raw, f"{maps}/middle") and gone(raw, f"{maps}/last"))


def test_a_dependent_of_nobody_is_collected(raw: Raw, ours: str, maps: str) -> None:
    owner = raw("POST", ours, widget())
    raw("DELETE", f"{ours}/a")
    raw("POST", maps, owned("late", owner))
    eventually(lambda: gone(raw, f"{maps}/late"), within_s=60)


def test_a_namespace_takes_its_content_along_and_takes_nothing_new(
    raw: Raw, ours: str, maps: str, namespace: str
) -> None:
    body = widget()
    body["metadata"]["finalizers"] = [FINALIZER]
    raw("POST", ours, body)
    raw("POST", maps, {"metadata": {"name": "a"}})
    raw("DELETE", f"/api/v1/namespaces/{namespace}")
    assert raw("GET", f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Terminating"
    refused = raw.refused("POST", maps, {"metadata": {"name": "b"}})
    assert refused["code"] == 403
    assert "because it is being terminated" in refused["message"]
    eventually(lambda: raw("GET", f"{ours}/a")["metadata"].get("deletionTimestamp"))
    raw("PATCH", f"{ours}/a", {"metadata": {"finalizers": None}}, type=MERGE)
    eventually(lambda: gone(raw, f"/api/v1/namespaces/{namespace}"), within_s=60)
