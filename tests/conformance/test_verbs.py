"""Every verb and every kind of patch, on a built-in kind and on one of ours."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client

from tests.conformance.conftest import Raw, widget

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


def config_map(name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": data}


def test_a_created_object_gets_what_only_the_server_knows(raw: Raw, ours: str) -> None:
    made = raw("POST", ours, widget())
    meta = made["metadata"]
    assert meta["uid"]
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["generation"] == 1
    assert int(meta["resourceVersion"]) > 0
    assert made == raw("GET", f"{ours}/a")


def test_a_name_is_taken_once(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    answer = raw.refused("POST", ours, widget())
    assert (answer["code"], answer["reason"]) == (409, "AlreadyExists")


def test_generate_name_makes_a_new_name_each_time(raw: Raw, maps: str) -> None:
    made = [raw("POST", maps, {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(name.startswith("x-") and len(name) == 7 for name in made)


def test_an_update_with_the_version_read_is_accepted_and_the_next_one_is_a_conflict(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    changed = raw("PUT", f"{ours}/a", {**read, "spec": {**read["spec"], "size": 4}})
    assert changed["spec"]["size"] == 4
    assert changed["metadata"]["generation"] == 2
    answer = raw.refused("PUT", f"{ours}/a", {**read, "spec": {**read["spec"], "size": 5}})
    assert (answer["code"], answer["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in answer["message"]


def test_an_update_that_changes_nothing_keeps_the_version(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    assert raw("PUT", f"{ours}/a", read)["metadata"]["resourceVersion"] == read["metadata"]["resourceVersion"]


def test_a_custom_object_cannot_be_replaced_blindly_a_config_map_can(raw: Raw, ours: str, maps: str) -> None:
    raw("POST", ours, widget())
    answer = raw.refused("PUT", f"{ours}/a", widget())
    assert answer["code"] == 422
    assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer["message"].replace(
        "0x0", "0"
    )
    raw("POST", maps, config_map(x="1"))
    assert raw("PUT", f"{maps}/a", config_map(x="2"))["data"] == {"x": "2"}


def test_an_update_of_nothing_is_not_found(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    raw("DELETE", f"{ours}/a")
    assert raw.refused("PUT", f"{ours}/a", read)["code"] == 404


def test_an_update_keeps_what_clients_cannot_set(raw: Raw, ours: str) -> None:
    read = raw("POST", ours, widget())
    meta = {**read["metadata"], "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 77}
    kept = raw("PUT", f"{ours}/a", {**read, "metadata": meta, "spec": {"size": 9}})["metadata"]
    assert kept["creationTimestamp"] == read["metadata"]["creationTimestamp"]
    assert kept["generation"] == 2


def test_merge_patch_sets_and_removes(raw: Raw, ours: str, maps: str) -> None:
    raw("POST", ours, widget(tags={"a": "1", "b": "2"}))
    patched = raw("PATCH", f"{ours}/a", {"spec": {"tags": {"a": None, "c": "3"}}}, type=MERGE)
    assert patched["spec"]["tags"] == {"b": "2", "c": "3"}
    raw("POST", maps, config_map(x="1"))
    assert raw("PATCH", f"{maps}/a", {"data": {"x": None, "y": "2"}}, type=MERGE)["data"] == {"y": "2"}


def test_json_patch_applies_in_order_and_a_failed_test_changes_nothing(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    steps = [{"op": "test", "path": "/spec/size", "value": 3}, {"op": "replace", "path": "/spec/size", "value": 4}]
    assert raw("PATCH", f"{ours}/a", steps, type=JSON)["spec"]["size"] == 4
    assert raw.refused("PATCH", f"{ours}/a", steps, type=JSON)["code"] == 422
    assert raw("GET", f"{ours}/a")["spec"]["size"] == 4


def test_strategic_patch_merges_lists_by_their_key(raw: Raw, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    ports = [{"name": "a", "port": 80, "targetPort": 80}, {"name": "b", "port": 81, "targetPort": 81}]
    raw("POST", path, {"metadata": {"name": "s"}, "spec": {"ports": ports}})
    body = {"spec": {"ports": [{"port": 80, "targetPort": 8000}, {"$patch": "delete", "port": 81}]}}
    patched = raw("PATCH", f"{path}/s", body, type=STRATEGIC)
    assert [(one["name"], one["targetPort"]) for one in patched["spec"]["ports"]] == [("a", 8000)]


def test_strategic_patch_is_for_built_in_kinds(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    assert raw.refused("PATCH", f"{ours}/a", {}, type=STRATEGIC)["code"] == 415


def test_a_patch_with_an_old_version_is_a_conflict(raw: Raw, ours: str) -> None:
    version = raw("POST", ours, widget())["metadata"]["resourceVersion"]
    raw("PATCH", f"{ours}/a", {"spec": {"size": 4}}, type=MERGE)
    body = {"metadata": {"resourceVersion": version}, "spec": {"size": 5}}
    assert raw.refused("PATCH", f"{ours}/a", body, type=MERGE)["code"] == 409


def test_dry_run_answers_as_if_and_stores_nothing(raw: Raw, ours: str) -> None:
    made = raw("POST", ours, widget(), dryRun="All")
    assert made["spec"]["mode"] == "fast"
    assert raw.refused("GET", f"{ours}/a")["code"] == 404
    raw("POST", ours, widget())
    assert raw("PATCH", f"{ours}/a", {"spec": {"size": 9}}, type=MERGE, dryRun="All")["spec"]["size"] == 9
    raw("DELETE", f"{ours}/a", dryRun="All")
    assert raw("GET", f"{ours}/a")["spec"]["size"] == 3
    assert raw.refused("POST", ours, widget("b"), dryRun="Some")["code"] in (400, 422)


def test_delete_answers_success_and_the_object_is_gone(raw: Raw, ours: str) -> None:
    uid = raw("POST", ours, widget())["metadata"]["uid"]
    answer = raw("DELETE", f"{ours}/a")
    assert (answer["kind"], answer["status"], answer["details"]["uid"]) == ("Status", "Success", uid)
    assert raw.refused("DELETE", f"{ours}/a")["code"] == 404


def test_delete_with_a_foreign_uid_is_a_conflict(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "0"}}
    assert raw.refused("DELETE", f"{ours}/a", options)["code"] == 409


def test_delete_collection_takes_what_the_selector_admits(raw: Raw, maps: str) -> None:
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        raw("POST", maps, {"metadata": {"name": name, "labels": {"tier": tier}}})
    raw("DELETE", maps, labelSelector="tier=x")
    names = [item["metadata"]["name"] for item in raw("GET", maps, labelSelector="tier")["items"]]
    assert names == ["c"]


def test_an_object_is_served_in_every_version_of_its_kind(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    status, other, headers = raw.full("GET", f"{ours.replace('/v1/', '/v1alpha1/')}/a")
    assert status == 200
    assert other["apiVersion"].endswith("/v1alpha1")
    assert other["spec"]["size"] == 3
    assert "is deprecated" in headers["Warning"]


def test_secret_text_becomes_data(core: client.CoreV1Api, namespace: str) -> None:
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="s"), string_data={"k": "v"})
    core.create_namespaced_secret(namespace, body)
    secret = core.read_namespaced_secret("s", namespace)
    assert secret.data == {"k": "dg=="}
    assert secret.string_data is None
    assert secret.type == "Opaque"


def test_a_lease_can_be_taken_and_renewed(api: client.ApiClient, namespace: str) -> None:
    leases = client.CoordinationV1Api(api)
    spec = client.V1LeaseSpec(holder_identity="one", lease_duration_seconds=15)
    lease = leases.create_namespaced_lease(namespace, client.V1Lease(metadata=client.V1ObjectMeta(name="l"), spec=spec))
    lease.spec.holder_identity = "two"
    assert leases.replace_namespaced_lease("l", namespace, lease).spec.holder_identity == "two"
    with pytest.raises(client.ApiException) as error:
        leases.replace_namespaced_lease("l", namespace, lease)
    assert error.value.status == 409


def test_an_event_is_one_object_in_two_groups(raw: Raw, namespace: str) -> None:
    involved = {"kind": "ConfigMap", "name": "x", "namespace": namespace, "apiVersion": "v1"}
    event = {
        "metadata": {"name": "e"},
        "involvedObject": involved,
        "reason": "Tested",
        "message": "hi",
        "type": "Normal",
    }
    raw("POST", f"/api/v1/namespaces/{namespace}/events", event)
    seen = raw("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")
    assert (seen["note"], seen["regarding"]["name"]) == ("hi", "x")


def test_who_may_ask_is_told(api: client.ApiClient) -> None:
    attributes = client.V1ResourceAttributes(verb="get", resource="pods", namespace="default")
    body = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    answer = client.AuthorizationV1Api(api).create_self_subject_access_review(body)
    assert answer.status.allowed is True
