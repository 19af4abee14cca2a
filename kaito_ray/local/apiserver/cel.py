"""Rules in CEL (`x-kubernetes-validations`): compiled when a CustomResourceDefinition arrives, run on every write.

The library `common-expression-language` evaluates; here is what Kubernetes adds to the language: its string, list, URL,
IP, quantity and format functions, escaped field names, values typed by the schema's `format`, and transition rules. A rule that uses
something this server has not is refused when the CustomResourceDefinition is created, never skipped.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from kaito_ray.local.apiserver.status import FieldError, duplicate, forbidden_field, invalid_value, required

MISSING: Final = object()
"""Stands for a value that is not there; null is a value."""

_RESERVED: Final = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BUILT_IN: Final = frozenset(
    [
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "string",
        "int",
        "uint",
        "double",
        "bytes",
        "bool",
        "dyn",
        "type",
        "timestamp",
        "duration",
        "has",
        "all",
        "exists",
        "exists_one",
        "map",
        "filter",
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
        "hasValue",
        "value",
        "orValue",
        "of",
        "none",
        "ofNonZeroValue",
        "min",
        "max",
    ]
)


class Unsupported(ValueError):
    """The rule cannot be evaluated by this server."""


@lru_cache(maxsize=1)
def library() -> Any:
    """Return the evaluator, without the command line that its package loads along (rich, typer, pygments: 14 MB)."""
    sys.modules.setdefault("cel.cli", types.ModuleType("cel.cli"))
    import cel

    return cel


@lru_cache(maxsize=1024)
def program(rule: str) -> Any:
    """Return the compiled rule.

    Raises:
        Unsupported: it does not parse, or calls a function that is not known here.
    """
    from kaito_ray.local.apiserver import cel_functions

    try:
        compiled = library().compile(rule)
    except ValueError as error:
        raise Unsupported(str(error)) from error
    known = _BUILT_IN | {name.rpartition(".")[2] for name in cel_functions.table()}
    for name in compiled.functions():
        if re.match(r"[A-Za-z]", name) and name not in known:
            raise Unsupported(f"undeclared reference to '{name}': this server does not have that function")
    return compiled


def rules_of(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rules that stand at this very node of a schema."""
    return schema.get("x-kubernetes-validations") or []


def all_rules(schema: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each rule of a schema, with the path of the node that carries it."""
    if not isinstance(schema, Mapping):
        return
    for index, rule in enumerate(rules_of(schema)):
        yield f"{path}.x-kubernetes-validations[{index}]", rule
    for name, part in (schema.get("properties") or {}).items():
        yield from all_rules(part, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        yield from all_rules(schema.get(name), f"{path}.{name}")


def is_transition(rule: Mapping[str, Any]) -> bool:
    """Say whether the rule compares with the old value."""
    return "oldSelf" in program(rule["rule"]).variables()


def violations(value: Any, schema: Mapping[str, Any], path: str, old: Any) -> Iterator[FieldError]:
    """Yield an error for each rule that does not hold, here and below.

    A rule is not run again on a value that did not change, a transition rule only where there is an old value.
    """
    if not has_rules(schema):
        return
    unchanged = old is not MISSING and old == value
    if value is not None:
        for rule in rules_of(schema):
            yield from _check(rule, value, schema, path, old, unchanged=unchanged)
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        rest = schema.get("additionalProperties")
        for key, part in value.items():
            inner = properties.get(key, rest)
            if isinstance(inner, Mapping):
                before = old.get(key, MISSING) if isinstance(old, dict) else MISSING
                yield from violations(part, inner, f"{path}.{key}" if path else key, before)
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        for index, item in enumerate(value):
            yield from violations(item, schema["items"], f"{path}[{index}]", counterpart(item, index, old, schema))


def counterpart(item: Any, index: int, old: Any, schema: Mapping[str, Any]) -> Any:
    """Return the entry of the old list that became this one: by its keys in a map list, else none."""
    del index
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map" or not isinstance(item, dict):
        return MISSING
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    for candidate in old:
        if isinstance(candidate, dict) and all(candidate.get(key) == item.get(key) for key in keys):
            return candidate
    return MISSING


_RULES_BELOW: dict[int, tuple[Any, bool]] = {}


def has_rules(schema: Any) -> bool:
    """Say whether any rule stands at or below this node; remembered by node, so a big schema is walked once."""
    if not isinstance(schema, Mapping):
        return False
    known = _RULES_BELOW.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    below = bool(rules_of(schema)) or any(
        has_rules(part)
        for part in (
            *(schema.get("properties") or {}).values(),
            schema.get("items"),
            schema.get("additionalProperties"),
        )
    )
    _RULES_BELOW[id(schema)] = (schema, below)
    return below


def forget() -> None:
    """Drop what is remembered about schemas, when one was replaced."""
    _RULES_BELOW.clear()


def _check(
    rule: Mapping[str, Any], value: Any, schema: Mapping[str, Any], path: str, old: Any, *, unchanged: bool
) -> Iterator[FieldError]:
    transition = is_transition(rule)
    optional = bool(rule.get("optionalOldSelf"))
    if (transition and old is MISSING and not optional) or (unchanged and not transition):
        return
    variables: dict[str, Any] = {"self": typed(value, schema)}
    if transition:
        before = None if old is MISSING else typed(old, schema)
        if optional:
            before = library().OptionalValue.none() if old is MISSING else library().OptionalValue.of(before)
        variables["oldSelf"] = before
    where = path + (rule.get("fieldPath") or "") if path else (rule.get("fieldPath") or "").removeprefix(".")
    try:
        holds = run(rule["rule"], variables)
    except Exception as error:
        # Whatever fails inside a rule is the rule's own failure to hold, with the reason; so it is on a real cluster.
        text = f"rule evaluation error: {_reason(error)} evaluating rule: {message_of(rule, variables)}"
        yield _invalid(where or "<nil>", value, text)
        return
    if holds is not True:
        yield _violation(rule, where or "<nil>", value, message_of(rule, variables))


def _violation(rule: Mapping[str, Any], where: str, value: Any, message: str) -> FieldError:
    reason = rule.get("reason")
    if reason == "FieldValueForbidden":
        return forbidden_field(where, message)
    if reason == "FieldValueRequired":
        return required(where, message)
    if reason == "FieldValueDuplicate":
        return duplicate(where, value)
    return _invalid(where, value, message)


def _invalid(where: str, value: Any, message: str) -> FieldError:
    """Show simple values, and leave big ones out."""
    if isinstance(value, dict | list):
        return FieldError("FieldValueInvalid", where, f"Invalid value: {message}")
    return invalid_value(where, value, message)


def message_of(rule: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    """Return the words for people: the computed message, the written one, or the rule itself."""
    expression = rule.get("messageExpression")
    if expression:
        try:
            text = run(expression, dict(variables))
        except Exception:
            text = None  # falls back to the written message, as on a real cluster
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text.strip()
    message = (rule.get("message") or "").strip()
    return message or f"failed rule: {' '.join(rule['rule'].split())}"


def run(expression: str, variables: dict[str, Any]) -> Any:
    """Return what the expression says of the variables; whatever it raises comes through."""
    from kaito_ray.local.apiserver import cel_functions

    return program(expression).execute(library().Context(variables=variables, functions=cel_functions.table()))


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no such key: {error.args[0]}"
    return str(error).partition(". Check ")[0]


def typed(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value as CEL sees it: field names escaped, dates and durations of their own type."""
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        rest = schema.get("additionalProperties")
        rest = rest if isinstance(rest, Mapping) else {}
        return {
            (escaped(key) if key in properties else key): typed(part, properties.get(key, rest))
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [typed(item, schema.get("items") or {}) for item in value]
    if isinstance(value, str) and schema.get("format") in ("date-time", "duration", "byte", "date"):
        from kaito_ray.local.apiserver import cel_functions

        return cel_functions.of_format(value, schema["format"])
    if isinstance(value, int) and not isinstance(value, bool) and schema.get("type") == "number":
        return float(value)
    return value


def escaped(name: str) -> str:
    """Return a field's name as CEL spells it: `a-b` is `a__dash__b`, a reserved word is `__word__`."""
    if name in _RESERVED:
        return f"__{name}__"
    if _PLAIN.fullmatch(name) and "__" not in name:
        return name
    replaced = name.replace("__", "__underscores__")
    for char, word in (("-", "dash"), (".", "dot"), ("/", "slash")):
        replaced = replaced.replace(char, f"__{word}__")
    return replaced
