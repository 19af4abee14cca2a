"""Label and field selectors: parsed once, then asked of every object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver.resources import EVENT, NAMESPACE, NODE, POD, SECRET, Kind
from kaito_ray.local.apiserver.status import ApiError, bad_request

Selector = Callable[[Mapping[str, Any]], bool]
"""Says whether an object, or the projection of one, is selected."""

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    POD.key: (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    EVENT.key: (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    NAMESPACE.key: ("status.phase",),
    NODE.key: ("spec.unschedulable",),
    SECRET.key: ("type",),
}
"""Fields beside metadata.name and metadata.namespace that can be selected, by kind: those of a real cluster."""
_ALWAYS: Final = ("metadata.name", "metadata.namespace")

_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?{_NAME}")
_SET: Final = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)")


def field_of(manifest: Mapping[str, Any], path: str) -> str:
    """Return the field as a selector sees it: text, empty where it is absent."""
    value: Any = manifest
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("component")
    if path == "spec.unschedulable":
        return "true" if value else "false"
    return "" if value is None else str(value)


def projection(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the small part of an object that any selector can see."""
    seen: dict[str, Any] = {}
    paths = {path for fields in _FIELDS.values() for path in fields} | {*_ALWAYS}
    for path in paths:
        if value := field_of(manifest, path):
            target = seen
            *parents, last = path.split(".")
            for parent in parents:
                target = target.setdefault(parent, {})
            target[last] = value == "true" if path == "spec.unschedulable" else value
    seen.setdefault("metadata", {})["labels"] = manifest["metadata"].get("labels") or {}
    return seen


def by_labels(text: str) -> Selector:
    """Parse a label selector: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

    Raises:
        ApiError: 400, with the part that cannot be read.
    """
    tests = [_label_test(part.strip()) for part in _split(text) if part.strip()]

    def selected(manifest: Mapping[str, Any]) -> bool:
        labels = manifest["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return selected


def by_fields(text: str, kind: Kind) -> Selector:
    """Parse a field selector: `metadata.name=x,status.phase!=Running`.

    Raises:
        ApiError: 400, where the kind cannot be selected by that field.
    """
    allowed = (*_ALWAYS, *_FIELDS.get(kind.key, ()))
    wanted: list[tuple[str, bool, str]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|!=|=)(.*)", part)
        if not match:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if kind.group == "events.k8s.io":
            path = path.replace("regarding.", "involvedObject.")
        if path not in allowed:
            raise _unknown_field(path, kind)
        wanted.append((path, operator != "!=", value))
    return lambda manifest: all((field_of(manifest, path) == value) is equal for path, equal, value in wanted)


def _unknown_field(path: str, kind: Kind) -> ApiError:
    """Return the refusal of a field that this kind cannot be selected by, in the words of a real cluster."""
    what = f'{kind.api_version}, Resource={kind.plural}" that match label selector "", field selector "{path}"'
    words = f"field label not supported: {path}"
    if not kind.custom and kind.key not in _FIELDS:
        words = f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return bad_request(f'Unable to find "{what}: {words}')


def _split(text: str) -> list[str]:
    return re.split(r",(?![^()]*\))", text)


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if match := _SET.fullmatch(part):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        _check_key(key, part)
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := re.fullmatch(r"([^=!<>]+?)\s*(==|!=|=)\s*([^=!<>]*)", part):
        key, operator, value = match.groups()
        _check_key(key, part)
        if value and not re.fullmatch(_NAME, value):
            raise bad_request(
                f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": a valid label must '
                "be an empty string or consist of alphanumeric characters, '-', '_' or '.'"
            )
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    key = part.removeprefix("!").strip()
    _check_key(key, part)
    if part.startswith("!"):
        return lambda labels: key not in labels
    return lambda labels: key in labels


def _check_key(key: str, part: str) -> None:
    if not _KEY.fullmatch(key):
        raise bad_request(f"unable to parse requirement: found '{part}', expected: identifier")


def by_label_selector(selector: Mapping[str, Any]) -> Selector:
    """Return the test of a `LabelSelector` object (`matchLabels`, `matchExpressions`); an empty one selects all.

    Raises:
        ApiError: 400, with the part that cannot be read.
    """
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, values = one["key"], ",".join(one.get("values") or ())
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        if one["operator"] not in words:
            raise bad_request(f'"{one["operator"]}" is not a valid label selector operator')
        parts.append(words[one["operator"]])
    return by_labels(",".join(parts))
