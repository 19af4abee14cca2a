"""Patches against the laws of their kinds: RFC 7386, RFC 6902, and what kubectl relies on in strategic merge."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver import builtin_schemas, patch, resources
from kaito_ray.local.apiserver.status import ApiError

POD = builtin_schemas.schema_of(resources.POD)

WORDS = st.sampled_from(
    [
        *("metadata", "name", "labels", "finalizers", "spec", "containers", "image", "env", "volumes", "command"),
        *("$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers", "0", "-"),
    ]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.sampled_from(["replace", "delete", "a"])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=16,
)
OBJECTS = st.dictionaries(WORDS, TREES, max_size=4)
POINTERS = st.lists(WORDS | st.text(max_size=3), max_size=3).map(
    lambda steps: "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
)
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": POINTERS},
        optional={"value": TREES, "from": POINTERS},
    ),
    max_size=4,
)
TYPES = (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC_PATCH)


def applied(kind: str, body: Any, current: dict[str, Any]) -> Any:
    return patch.apply(kind, json.dumps(body).encode(), current, resources.POD, POD)


def merged(target: Any, change: Any) -> Any:
    """RFC 7386, section 2, word for word."""
    if not isinstance(change, dict):
        return change
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


@given(kind=st.sampled_from(TYPES), body=TREES | OPERATIONS, current=OBJECTS)
def test_any_patch_is_applied_or_refused_and_the_object_itself_stays(
    kind: str, body: Any, current: dict[str, Any]
) -> None:
    before, refusal = copy.deepcopy(current), None
    try:
        applied(kind, body, current)
    except ApiError as error:
        refusal = error
    assert current == before
    assert refusal is None or (refusal.code in (400, 422) and refusal.body["message"])


@given(change=OBJECTS, current=OBJECTS)
def test_a_merge_patch_is_what_the_rfc_says(change: dict[str, Any], current: dict[str, Any]) -> None:
    once = applied(patch.MERGE_PATCH, change, current)
    assert once == merged(current, change)
    assert applied(patch.MERGE_PATCH, change, once) == once


@given(current=OBJECTS, name=WORDS, value=TREES)
def test_json_patch_adds_tests_copies_moves_and_removes(current: dict[str, Any], name: str, value: Any) -> None:
    at = "/" + name.replace("~", "~0").replace("/", "~1")
    added = applied(patch.JSON_PATCH, [{"op": "add", "path": at, "value": value}], current)
    assert added == {**current, name: value}
    test = {"op": "test", "path": at, "value": value}
    assert applied(patch.JSON_PATCH, [test], added) == added
    copied = applied(patch.JSON_PATCH, [{"op": "copy", "from": at, "path": "/new"}], added)
    assert copied == {**added, "new": value}
    moved = applied(patch.JSON_PATCH, [{"op": "move", "from": at, "path": "/new"}], added)
    without = {key: kept for key, kept in added.items() if key != name}
    assert moved == {**without, "new": value}
    assert applied(patch.JSON_PATCH, [{"op": "remove", "path": at}], added) == without


NAMES = st.sampled_from("abcde")
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"image": NAMES, "command": st.lists(NAMES, max_size=2)}),
    unique_by=lambda one: one["name"],
    max_size=4,
)


@given(have=CONTAINERS, want=CONTAINERS)
def test_a_strategic_patch_merges_containers_by_name(have: list[dict[str, Any]], want: list[dict[str, Any]]) -> None:
    current = {"metadata": {"name": "p"}, "spec": {"containers": have}}
    change = {"spec": {"containers": want}}
    once = applied(patch.STRATEGIC_PATCH, change, current)
    by_name = {one["name"]: one for one in have}
    expected = {**by_name, **{one["name"]: {**by_name.get(one["name"], {}), **one} for one in want}}
    assert once["spec"]["containers"] == list(expected.values())
    assert applied(patch.STRATEGIC_PATCH, change, once) == once


@given(have=CONTAINERS, gone=NAMES)
def test_a_strategic_deletion_takes_one_container(have: list[dict[str, Any]], gone: str) -> None:
    change = {"spec": {"containers": [{"name": gone, "$patch": "delete"}]}}
    once = applied(patch.STRATEGIC_PATCH, change, {"spec": {"containers": have}})
    assert once["spec"]["containers"] == [one for one in have if one["name"] != gone]
