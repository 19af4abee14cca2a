"""Whatever is sent, the server answers with a Status, stays up, and stores nothing that it cannot give back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes import client

from tests.conformance.conftest import Raw, installed, widget, widget_crd

CALM = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
KEYS = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "size",
        "parts",
        "free",
        "labels",
        "name",
        "ownerReferences",
        "finalizers",
        "x",
        "$patch",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=15,
)
TYPES = ["application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json"]


@pytest.fixture(scope="module")
def place(raw: Raw, core: client.CoreV1Api, widgets: str) -> Iterator[str]:
    core.create_namespace({"metadata": {"name": "hostile"}})
    raw("POST", f"{widgets}/namespaces/hostile/widgets", widget("kept"))
    raw("POST", "/api/v1/namespaces/hostile/configmaps", {"metadata": {"name": "kept"}})
    yield f"{widgets}/namespaces/hostile/widgets"
    core.delete_namespace("hostile")


def sane(raw: Raw, method: str, path: str, body: Any = None, **more: Any) -> None:
    status, answer, _ = raw.full(method, path, body, **more)
    assert status < 500, answer
    assert answer["kind"]
    if status < 300 and answer["metadata"].get("name"):
        again = raw.full(
            "GET", f"{path.removesuffix('/' + answer['metadata']['name'])}/{quote(answer['metadata']['name'])}"
        )
        assert again[0] in (200, 404)


@CALM
@given(body=JSON)
def test_any_body_of_a_creation(raw: Raw, place: str, body: Any) -> None:
    sane(raw, "POST", place, body)
    sane(raw, "POST", "/api/v1/namespaces/hostile/configmaps", {"metadata": {"name": "x"}, "data": body})
    sane(raw, "POST", place, {**widget("x"), "metadata": body})
    sane(raw, "POST", place, {**widget("x"), "spec": body})
    raw.full("DELETE", f"{place}/x")
    raw.full("DELETE", "/api/v1/namespaces/hostile/configmaps/x")


@CALM
@given(
    body=JSON
    | st.lists(
        st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "move", "test"]), "path": st.text(max_size=5), "value": JSON}
        )
    ),
    type=st.sampled_from(TYPES),
)
def test_any_patch(raw: Raw, place: str, body: Any, type: str) -> None:
    sane(raw, "PATCH", f"{place}/kept", body, type=type, dryRun="All")
    sane(raw, "PATCH", "/api/v1/namespaces/hostile/configmaps/kept", body, type=type, dryRun="All")
    assert raw("GET", f"{place}/kept")["spec"] == {"size": 3, "mode": "fast"}


@CALM
@given(
    text=st.text(max_size=12),
    name=st.sampled_from(["labelSelector", "fieldSelector", "continue", "limit", "resourceVersion", "dryRun"]),
)
def test_any_query(raw: Raw, place: str, text: str, name: str) -> None:
    status, answer, _ = raw.full("GET", place, **{name: quote(text, safe="")})
    assert status < 500 or answer["reason"] == "Timeout"


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        '{"metadata": {"name": "x"}, "spec": {"size": NaN}}',
        '{"metadata": {"name": "\\ud800"}}',
        '{"metadata": {"name": "x"}, "data": {"a": "\\ud800"}}',
        "\x00",
        "",
        "null",
    ],
    ids=["brackets", "deep", "nan", "surrogate name", "surrogate value", "nul", "empty", "null"],
)  # fmt: skip
def test_bodies_that_parsers_trip_over(raw: Raw, place: str, body: str) -> None:
    for path in (place, "/api/v1/namespaces/hostile/configmaps"):
        answer = raw.refused("POST", path, body)
        assert answer["code"] in (400, 422)


@pytest.mark.parametrize("body", ["a: [", "a: b: c", "\t- x", "&a [*a, *b]", "!!python/object:os.system {}", "- 1"])
def test_yaml_that_is_none_is_refused(raw: Raw, place: str, body: str) -> None:
    assert raw.refused("POST", place, body, type="application/yaml")["code"] == 400


def test_a_deep_value_where_anything_goes(raw: Raw, place: str) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = {"x": deep}
    status, answer, _ = raw.full("POST", place, json.dumps(widget("deep", free=deep)))
    assert status in (201, 400), answer
    raw.full("DELETE", f"{place}/deep")


def test_a_hostile_pattern_in_a_crd_is_refused(raw: Raw) -> None:
    crd = widget_crd()
    crd["metadata"]["name"] = f"hostiles.{crd['spec']['group']}"
    crd["spec"]["names"] = {"kind": "Hostile", "plural": "hostiles"}
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["code"]["pattern"] = (
        "(("
    )
    answer = raw.refused("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    assert "must be a valid regular expression" in answer["message"]


def test_an_ordinary_crd_still_works_after_all_that(raw: Raw) -> None:
    crd = widget_crd()
    crd["metadata"]["name"] = f"afters.{crd['spec']['group']}"
    crd["spec"]["names"] = {"kind": "After", "plural": "afters"}
    with installed(raw, crd):
        assert raw("GET", f"/apis/{crd['spec']['group']}/v1/afters")["items"] == []
