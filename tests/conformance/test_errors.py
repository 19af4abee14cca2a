"""The bodies of refusals, word for word: people read them through kubectl, programs by reason and code."""

from __future__ import annotations

import pytest

from tests.conformance.conftest import GROUP, Kubectl, Raw, widget


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


def test_not_found(raw: Raw, ours: str) -> None:
    assert raw.refused("GET", f"{ours}/a") == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'widgets.{GROUP} "a" not found',
        "reason": "NotFound",
        "details": {"name": "a", "group": GROUP, "kind": "widgets"},
        "code": 404,
    }


def test_already_exists(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget())
    answer = raw.refused("POST", ours, widget())
    assert answer["message"] == f'widgets.{GROUP} "a" already exists'
    assert answer["details"] == {"name": "a", "group": GROUP, "kind": "widgets"}


def test_conflict(raw: Raw, ours: str) -> None:
    made = raw("POST", ours, widget())
    made["metadata"]["resourceVersion"] = "1"
    assert raw.refused("PUT", f"{ours}/a", made)["message"] == (
        f'Operation cannot be fulfilled on widgets.{GROUP} "a": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_a_kind_that_is_not_there(raw: Raw, widgets: str) -> None:
    status, answer, _ = raw.full("GET", f"{widgets}/gizmos")
    assert (status, answer["text"]) == (404, "404 page not found\n")


def test_a_namespace_that_is_not_there(raw: Raw, widgets: str) -> None:
    answer = raw.refused("POST", "/api/v1/namespaces/no-such-namespace/configmaps", {"metadata": {"name": "a"}})
    assert answer["message"] == 'namespaces "no-such-namespace" not found'


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        pytest.param({}, "name or generateName is required", id="no name"),
        pytest.param({"name": "Bad_Name"}, 'metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain', id="name"),
        pytest.param({"name": "a", "labels": {"x": "a b"}}, 'metadata.labels: Invalid value: "a b": a valid label must', id="label"),
        pytest.param({"name": "a", "labels": {"-x": "a"}}, 'metadata.labels: Invalid value: "-x": name part must', id="label key"),
        pytest.param({"name": "a", "finalizers": ["nope"]}, "neither a standard finalizer name nor", id="finalizer"),
    ],
)  # fmt: skip
def test_bad_metadata(raw: Raw, namespace: str, meta: dict[str, object], words: str) -> None:
    answer = raw.refused("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": meta})
    assert answer["code"] == 422
    assert words in answer["message"]


def test_wrong_types_in_a_built_in_kind(raw: Raw, namespace: str) -> None:
    body = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"x": 1}}
    answer = raw.refused("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert answer["code"] == 400
    assert answer["message"] == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    )


def test_the_name_in_the_body_must_be_the_name_in_the_path(raw: Raw, ours: str) -> None:
    made = raw("POST", ours, widget())
    made["metadata"]["name"] = "b"
    answer = raw.refused("PUT", f"{ours}/a", made)
    assert answer["message"] == "the name of the object (b) does not match the name on the URL (a)"


def test_a_body_that_is_no_object(raw: Raw, ours: str) -> None:
    assert raw.refused("POST", ours, "[1, 2")["code"] == 400
    assert raw.refused("POST", ours, "<a/>", type="text/xml")["code"] == 415


def test_a_body_that_is_too_long(raw: Raw, namespace: str) -> None:
    body = {"metadata": {"name": "a"}, "data": {"x": "y" * 4_000_000}}
    answer = raw.refused("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)
    assert answer["code"] == 413


def test_kubectl_shows_the_words(kubectl: Kubectl, widgets: str) -> None:
    assert (
        kubectl("get", "wdg", "a", fails=True).err == f'Error from server (NotFound): widgets.{GROUP} "a" not found\n'
    )
    answer = kubectl.apply(widget(size=20), fails=True)
    assert answer.err == (
        'The Widget "a" is invalid: spec.size: Invalid value: 20: '
        "spec.size in body should be less than or equal to 10\n"
    )
    answer = kubectl.apply(widget(colour="red"), fails=True)
    assert (
        'Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.colour"'
        in answer.err
    )
