"""Structural schemas: prune what is not declared, fill in defaults, and say what breaks a rule.

The three are separate walks because Kubernetes has them in that order, with admission in between. Schemas are plain
OpenAPI v3 dicts as they stand in a CustomResourceDefinition; the built-in kinds are brought into the same shape by
`builtin_schemas`. Words of the errors: those of a kube-apiserver. A JSON Schema library would come to the same verdicts,
but in its own words, and knows neither list keys and int-or-string nor what an update left unchanged.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from kaito_ray.local.apiserver import cel, formats
from kaito_ray.local.apiserver.status import (
    FieldError,
    duplicate,
    invalid_value,
    required,
    too_long,
    too_many,
    unsupported,
)

Schema = Mapping[str, Any]

MISSING: Final = cel.MISSING
_BLOCKING: Final = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_UNCHECKED: Final = invalid_value(
    "<nil>",
    None,
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation",
)
_EMBEDDED: Final = frozenset(("apiVersion", "kind", "metadata"))


def prune(value: Any, schema: Schema, path: str = "", *, root: bool = True) -> list[str]:
    """Drop fields that the schema does not declare, in place, and return their paths."""
    unknown: list[str] = []
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, Mapping):
        for index, item in enumerate(value):
            unknown += prune(item, items, f"{path}[{index}]", root=False)
    if not isinstance(value, dict):
        return unknown
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    keeps = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or rest is True
    embedded = root or schema.get("x-kubernetes-embedded-resource")
    for key in list(value):
        where = f"{path}.{key}" if path else key
        if embedded and key in _EMBEDDED:
            continue
        if key in properties:
            unknown += prune(value[key], properties[key], where, root=False)
        elif isinstance(rest, Mapping):
            unknown += prune(value[key], rest, where, root=False)
        elif not keeps:
            unknown.append(where)
            del value[key]
    return unknown


def fill_defaults(value: Any, schema: Schema) -> None:
    """Fill in defaults, in place; a null where null is not allowed gives way to the default, or goes where there is none."""
    if isinstance(value, list):
        items = schema.get("items") or {}
        for item in value:
            fill_defaults(item, items)
    if not isinstance(value, dict):
        return
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    for key, declared in properties.items():
        if "default" in declared and key not in value:
            value[key] = copy.deepcopy(declared["default"])
    rest = schema.get("additionalProperties")
    for key in list(value):
        part = properties[key] if key in properties else rest  # noqa: SIM401 -- mypy cannot type the union of get
        if not isinstance(part, Mapping):
            continue
        if value[key] is None and not part.get("nullable"):
            if "default" not in part:
                del value[key]
                continue
            value[key] = copy.deepcopy(part["default"])
        fill_defaults(value[key], part)


def validate(value: Any, schema: Schema, path: str = "", old: Any = MISSING) -> list[FieldError]:
    """Return what is wrong with `value`, rules in CEL included.

    What did not change since `old` is not judged again, so that a tightened schema does not wedge objects (Kubernetes
    calls it ratcheting). Rules in CEL run only on what has the right shape; where it has not, an error says so.
    """
    errors = list(structure(value, schema, path, old))
    if not any(error.type in _BLOCKING for error in errors):
        return errors + list(cel.violations(value, schema, path, old))
    return [*errors, _UNCHECKED] if cel.has_rules(schema) else errors


def structure(value: Any, schema: Schema, path: str = "", old: Any = MISSING) -> Iterator[FieldError]:
    """Yield what is wrong with `value`, rules in CEL left out."""
    if old is not MISSING and old == value and path:
        return
    if value is None:
        if not schema.get("nullable") and ("type" in schema or schema.get("x-kubernetes-int-or-string")):
            yield _wrong_type(path, schema.get("type", "integer,string"), "null")
        return
    wrong = _type_error(value, schema, path)
    if wrong:
        yield wrong
        return
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(path, value, schema["enum"])
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _array(value, schema, path, old)
    elif isinstance(value, dict):
        yield from _object(value, schema, path, old)
    yield from _combinations(value, schema, path)


def _type_error(value: Any, schema: Schema, path: str) -> FieldError | None:
    is_a = type_name(value)
    if schema.get("x-kubernetes-int-or-string"):
        return None if is_a in ("integer", "string") else _wrong_type(path, "integer,string", is_a)
    wanted = schema.get("type")
    if wanted is None or wanted == is_a or (wanted == "number" and is_a == "integer"):
        return None
    return _wrong_type(path, wanted, is_a)


def _wrong_type(path: str, wanted: str, is_a: str) -> FieldError:
    detail = f"{path or '<nil>'} in body must be of type {wanted}: {json.dumps(is_a)}"
    return invalid_value(path or "<nil>", is_a, detail, "FieldValueTypeInvalid")


def type_name(value: Any) -> str:
    """Return the JSON type; a float without a fraction is an integer."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return "integer"
    names = {str: "string", float: "number", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def _string(value: str, schema: Schema, path: str) -> Iterator[FieldError]:
    longest = schema.get("maxLength")
    if longest is not None and len(value) > longest:
        yield too_long(path, longest)
    shortest = schema.get("minLength")
    if shortest is not None and len(value) < shortest:
        yield invalid_value(path, value, f"{path} in body should be at least {shortest} chars long")
    pattern = schema.get("pattern")
    if pattern and not compiled(pattern).search(value):
        yield invalid_value(path, value, f"{path} in body should match '{pattern}'")
    form = schema.get("format")
    if form and not formats.matches(form, value):
        detail = f"{path} in body must be of type {form}: {json.dumps(value, ensure_ascii=False)}"
        yield invalid_value(path, value, detail, "FieldValueTypeInvalid")


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    r"""Return the compiled pattern. Patterns are Go's: `\z` is Python's `\Z`, and `$` does not match before a newline."""
    text = re.sub(r"(\\.|\[(?:\\.|[^\]])*\])|\$", lambda match: match[1] or r"\Z", pattern)
    return re.compile(text.replace(r"\z", r"\Z"), re.ASCII)


def _number(value: float, schema: Schema, path: str) -> Iterator[FieldError]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {than} {most}")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {than} {least}")
    step = schema.get("multipleOf")
    if step and not math.isclose(math.remainder(value, step), 0.0, abs_tol=1e-12):
        yield invalid_value(path, value, f"{path} in body should be a multiple of {step}")
    bits = {"int32": 31, "int64": 63}.get(schema.get("format", ""))
    if bits and not -(2**bits) <= value < 2**bits:
        detail = f"{path} in body must be of type {schema['format']}: {json.dumps(type_name(value))}"
        yield invalid_value(path, value, detail, "FieldValueTypeInvalid")


def _array(value: list[Any], schema: Schema, path: str, old: Any) -> Iterator[FieldError]:
    most, least = schema.get("maxItems"), schema.get("minItems")
    if most is not None and len(value) > most:
        yield too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} items")
    items = schema.get("items")
    keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
    if schema.get("uniqueItems") or schema.get("x-kubernetes-list-type") == "set":
        yield from _repeated(value, path)
    if keys:
        yield from _repeated_keys(value, keys, items or {}, path)
    if isinstance(items, Mapping):
        for index, item in enumerate(value):
            yield from structure(item, items, f"{path}[{index}]", cel.counterpart(item, index, old, schema))


def _repeated(value: list[Any], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        text = json.dumps(item, sort_keys=True)
        if text in seen:
            yield duplicate(f"{path}[{index}]", item)
        seen.add(text)


def _repeated_keys(value: list[Any], keys: list[str], items: Schema, path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            continue
        key = {name: item.get(name, (items.get("properties") or {}).get(name, {}).get("default")) for name in keys}
        text = json.dumps(key, sort_keys=True)
        if text in seen:
            yield duplicate(f"{path}[{index}]", key)
        seen.add(text)


def _object(value: dict[str, Any], schema: Schema, path: str, old: Any) -> Iterator[FieldError]:
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if most is not None and len(value) > most:
        yield too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} properties")
    for name in schema.get("required") or ():
        if name not in value:
            yield required(join(path, name))
    properties: Mapping[str, Schema] = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    embedded = schema.get("x-kubernetes-embedded-resource")
    if embedded:
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                yield required(join(path, name), "must not be empty")
    for key, part in value.items():
        inner = properties.get(key, rest)
        if isinstance(inner, Mapping) and not ((embedded or not path) and key in _EMBEDDED):
            where = join(path, key) if key in properties else join_key(path, key)
            before = old.get(key, MISSING) if isinstance(old, dict) else MISSING
            yield from structure(part, inner, where, before)


def _combinations(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    if schema.get("x-kubernetes-int-or-string"):
        return  # its anyOf repeats what the type check said
    for part in schema.get("allOf") or ():
        yield from structure(value, part, path, MISSING)
    anyof = schema.get("anyOf")
    if anyof:
        tries = [list(structure(value, part, path, MISSING)) for part in anyof]
        if all(tries):
            yield invalid_value(path, "", f"{json.dumps(path)} must validate at least one schema (anyOf)")
            yield from min(tries, key=len)
    oneof = schema.get("oneOf")
    if oneof:
        tries = [list(structure(value, part, path, MISSING)) for part in oneof]
        fitting = sum(not found for found in tries)
        if fitting != 1:
            more = "" if fitting == 0 else f". Found {fitting} valid alternatives"
            yield invalid_value(path, "", f"{json.dumps(path)} must validate one and only one schema (oneOf){more}")
            if fitting == 0:
                yield from min(tries, key=len)
    refused = schema.get("not")
    if refused is not None and not list(structure(value, refused, path, MISSING)):
        yield invalid_value(path, "", f"{json.dumps(path)} must not validate the schema (not)")


def join(path: str, name: str) -> str:
    """Return the path of a field."""
    return f"{path}.{name}" if path else name


def join_key(path: str, key: str) -> str:
    """Return the path of an entry of a map."""
    return f"{path}.{key}" if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f"{path}[{key}]"
