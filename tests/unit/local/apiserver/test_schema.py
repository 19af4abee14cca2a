"""Pruning, defaults and the words of errors, on schemas alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver import builtin_schemas, resources
from kaito_ray.local.apiserver.schema import compiled, fill_defaults, prune, structure, validate

ITEM = {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer", "default": 7}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "list": {"type": "array", "items": ITEM},
                "map": {"type": "object", "additionalProperties": ITEM},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"item": ITEM}},
                "pod": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"spec": {"type": "object"}},
                },
                "maybe": {"type": "string", "nullable": True, "default": "x"},
                "kind": {"type": "string", "default": "plain"},
            },
        }
    },
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["spec", "list", "map", "free", "n", "z"]), inner)
    ),
    max_leaves=20,
)


def test_unknown_fields_are_dropped_and_named() -> None:
    value = {"a": 1, "metadata": {"any": 1}, "spec": {"list": [{"name": "x", "b": 1}], "map": {"k": {"c": 1}}}}
    assert prune(value, SCHEMA) == ["a", "spec.list[0].b", "spec.map.k.c"]
    assert value == {"metadata": {"any": 1}, "spec": {"list": [{"name": "x"}], "map": {"k": {}}}}


def test_what_is_preserved_is_pruned_again_below_a_known_field() -> None:
    value = {"spec": {"free": {"any": {"thing": 1}, "item": {"name": "x", "b": 1}}}}
    assert prune(value, SCHEMA) == ["spec.free.item.b"]


def test_an_embedded_object_keeps_its_metadata() -> None:
    value = {"spec": {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "other": 1}}}
    assert prune(value, SCHEMA) == ["spec.pod.other"]
    (missing,) = structure({"spec": {"pod": {"kind": "Pod"}}}, SCHEMA)
    assert str(missing) == "spec.pod.apiVersion: Required value: must not be empty"


@given(JSON)
def test_pruning_twice_is_pruning_once(value: Any) -> None:
    value = {"spec": value}
    prune(value, SCHEMA)
    again = copy.deepcopy(value)
    assert prune(again, SCHEMA) == []
    assert again == value


@given(JSON)
def test_filling_in_twice_is_filling_in_once(value: Any) -> None:
    value = {"spec": value}
    fill_defaults(value, SCHEMA)
    again = copy.deepcopy(value)
    fill_defaults(again, SCHEMA)
    assert again == value


@given(JSON)
def test_any_json_is_judged_without_a_crash(value: Any) -> None:
    for error in validate({"spec": value}, SCHEMA):
        assert str(error)


def test_null_gives_way_to_a_default_only_where_null_is_not_a_value() -> None:
    value: dict[str, Any] = {"spec": {"maybe": None, "kind": None}}
    fill_defaults(value, SCHEMA)
    assert value["spec"]["maybe"] is None
    assert value["spec"]["kind"] == "plain"


def test_a_default_is_a_copy() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "default": {}}}}
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    fill_defaults(first, schema)
    first["a"]["x"] = 1
    fill_defaults(second, schema)
    assert second == {"a": {}}


def test_what_did_not_change_is_not_judged_again() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 1}, "b": {"type": "integer", "maximum": 1}},
    }
    (error,) = validate({"a": 5, "b": 6}, schema, old={"a": 5, "b": 1})
    assert error.field == "b"


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "integer"}, 1.5, 'must be of type integer: "number"'),
        ({"type": "integer"}, True, 'must be of type integer: "boolean"'),
        ({"type": "string"}, None, 'must be of type string: "null"'),
        ({"type": "integer", "format": "int32"}, 2**31, "must be of type int32"),
        ({"type": "number", "multipleOf": 0.1}, 0.25, "should be a multiple of 0.1"),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, 1, "should be less than 1"),
        ({"type": "array", "minItems": 1, "items": {}}, [], "should have at least 1 items"),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, "Too many: 2: must have at most 1 items"),
        ({"type": "object", "not": {"required": ["a"]}}, {"a": 1}, "must not validate the schema (not)"),
        ({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 1}, "Found 2 valid alternatives"),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {}, "at least one schema (anyOf)"),
        ({"type": "object", "allOf": [{"required": ["a"]}]}, {}, "Required value"),
        ({"type": "string", "format": "ipv4"}, "1.2.3", "must be of type ipv4"),
        ({"type": "array", "uniqueItems": True, "items": {}}, [1, 1], "Duplicate value: 1"),
    ],
)  # fmt: skip
def test_each_rule_has_its_words(schema: dict[str, Any], value: Any, words: str) -> None:
    errors = list(structure(value, schema, "f"))
    assert any(words in str(error) for error in errors)


def test_a_whole_float_is_an_integer_and_an_integer_is_a_number() -> None:
    assert not list(structure(2.0, {"type": "integer"}, "f"))
    assert not list(structure(2, {"type": "number"}, "f"))


def test_patterns_are_gos() -> None:
    assert not compiled("^a$").search("a\n")
    assert compiled(r"^[a$]+\$$").search("a$$")
    assert not compiled(r"^\d$").search("٣")


def test_built_in_schemas_know_their_merge_keys_and_types() -> None:
    pod = builtin_schemas.schema_of(resources.POD)
    containers = pod["properties"]["spec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert prune({"spec": {"containers": [{"name": "x", "nope": 1}]}}, pod) == ["spec.containers[0].nope"]
    crd = builtin_schemas.schema_of(resources.CRD)
    value = {"spec": {"versions": [{"schema": {"openAPIV3Schema": {"default": {"any": [{"thing": 1}]}}}}]}}
    assert prune(value, crd) == []
