"""Strategic merge patch, and what refuses to be patched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver import builtin_schemas, patch, resources
from kaito_ray.local.apiserver.status import ApiError

POD = builtin_schemas.schema_of(resources.POD)


def pod(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **more}}


def patched(current: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = patch.strategic(copy.deepcopy(current), copy.deepcopy(change), POD)
    return result


def test_a_list_with_a_merge_key_is_merged() -> None:
    change = {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}}
    result = patched(pod({"name": "a"}, {"name": "b", "tty": True}), change)
    assert result["spec"]["containers"] == [{"name": "a"}, {"name": "b", "tty": True, "image": "2"}, {"name": "c"}]


def test_directives_delete_and_replace() -> None:
    current = pod({"name": "a"}, {"name": "b"})
    deleted = patched(current, {"spec": {"containers": [{"$patch": "delete", "name": "a"}]}})
    assert deleted["spec"]["containers"] == [{"name": "b"}]
    replaced = patched(current, {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}})
    assert replaced["spec"]["containers"] == [{"name": "c"}]
    assert patched(current, {"spec": {"$patch": "replace", "hostNetwork": True}})["spec"] == {"hostNetwork": True}
    retained = patched(pod({"name": "a"}, volumes=[]), {"spec": {"$retainKeys": ["volumes"], "volumes": []}})
    assert retained["spec"] == {"volumes": []}


def test_null_removes_and_an_atomic_list_is_replaced() -> None:
    current = pod({"name": "a", "command": ["x", "y"]}, hostNetwork=True)
    change = {"spec": {"hostNetwork": None, "containers": [{"name": "a", "command": ["z"]}]}}
    assert patched(current, change)["spec"] == {"containers": [{"name": "a", "command": ["z"]}]}


def test_primitive_lists_can_lose_entries_and_order_can_be_set() -> None:
    current = {"metadata": {"name": "p", "finalizers": ["a.b/c", "d.e/f"]}}
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a.b/c"]}}
    assert patched(current, change)["metadata"]["finalizers"] == ["d.e/f"]
    change = {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}
    result = patched(pod({"name": "a"}, {"name": "b"}), change)
    assert [one["name"] for one in result["spec"]["containers"]] == ["b", "a"]


def test_an_entry_without_its_key_is_refused() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        patched(pod({"name": "a"}), {"spec": {"containers": [{"image": "x"}]}})


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.lists(st.sampled_from("abcdef"), unique=True))
def test_patching_twice_is_patching_once(have: list[str], want: list[str]) -> None:
    change = {"spec": {"containers": [{"name": name, "image": "2"} for name in want]}}
    once = patched(pod(*({"name": name} for name in have)), change)
    assert patched(once, change) == once
    assert {one["name"] for one in once["spec"]["containers"]} == {*have, *want}


@pytest.mark.parametrize(
    ("kind", "type", "code"),
    [
        (resources.POD, patch.APPLY_PATCH[0], 415),
        (resources.Kind("x.dev", "v1", "xs", "X", custom=True), patch.STRATEGIC_PATCH, 415),
        (resources.POD, "application/json", 415),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused(kind: resources.Kind, type: str, code: int) -> None:
    with pytest.raises(ApiError) as error:
        patch.apply(type, b"{}", pod(), kind, POD)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("type", "body", "code"),
    [
        (patch.MERGE_PATCH, b"[]", 400),
        (patch.MERGE_PATCH, b"{", 400),
        (patch.MERGE_PATCH, b'{"a": NaN}', 400),
        (patch.MERGE_PATCH, b'{"a": "\\ud800"}', 400),
        (patch.JSON_PATCH, b"{}", 400),
        (patch.JSON_PATCH, b'[{"op": "remove", "path": "/nope"}]', 422),
        (patch.JSON_PATCH, b'[{"op": "test", "path": "/metadata/name", "value": "q"}]', 422),
        (patch.JSON_PATCH, b'[{"op": "fly", "path": "/metadata/name"}]', 422),
        (patch.JSON_PATCH, b'["x"]', 422),
    ],
)  # fmt: skip
def test_a_broken_patch_is_refused(type: str, body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as error:
        patch.apply(type, body, pod(), resources.POD, POD)
    assert error.value.code == code
