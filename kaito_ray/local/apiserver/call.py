"""One request about objects, read from a path, a query and a body."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kaito_ray.local.apiserver import protobuf, selectors
from kaito_ray.local.apiserver.resources import Kind
from kaito_ray.local.apiserver.selectors import Selector
from kaito_ray.local.apiserver.status import FieldError, bad_request, invalid, unsupported_media_type

BODY_LIMIT_BYTES: Final = 3 * 2**20
"""Longest body, as on a real cluster."""

Manifest = dict[str, Any]


@dataclass
class Call:
    """What is asked. `namespace` is None for all namespaces and for kinds without; `warnings` go back as headers."""

    kind: Kind
    namespace: str | None
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    warnings: list[str] = field(default_factory=list)

    @property
    def place(self) -> tuple[str, str, str]:
        """Return where the object lies in the store."""
        return self.kind.key, self.namespace or "", self.name

    def flag(self, name: str) -> bool:
        """Return a boolean query parameter."""
        return self.query.get(name, "").lower() in ("true", "1")

    @property
    def dry_run(self) -> bool:
        """Say whether nothing shall be stored.

        Raises:
            ApiError: 422, for anything but `All`.
        """
        value = self.query.get("dryRun", "")
        if value not in ("", "All"):
            body = f'Unsupported value: {json.dumps(value)}: supported values: "All"'
            raise invalid(None, "", [FieldError("FieldValueNotSupported", "dryRun", body)])
        return value == "All"

    @property
    def field_validation(self) -> str:
        """Return `Strict`, `Warn` or `Ignore`.

        Raises:
            ApiError: 422, for anything else.
        """
        value = self.query.get("fieldValidation", "") or "Warn"
        if value not in ("Strict", "Warn", "Ignore"):
            body = f'Unsupported value: {json.dumps(value)}: supported values: "Ignore", "Strict", "Warn"'
            raise invalid(None, "", [FieldError("FieldValueNotSupported", "fieldValidation", body)])
        return value

    def selector(self) -> Selector:
        """Return the test that label and field selector make together.

        Raises:
            ApiError: 400, where one cannot be read.
        """
        tests: list[Selector] = []
        if text := self.query.get("labelSelector"):
            tests.append(selectors.by_labels(text))
        if text := self.query.get("fieldSelector"):
            tests.append(selectors.by_fields(text, self.kind))
        if self.name:
            name = self.name
            tests.append(lambda one: one["metadata"].get("name") == name)
        return lambda manifest: all(test(manifest) for test in tests)

    @property
    def selects(self) -> bool:
        """Say whether there is a selector."""
        return bool(self.query.get("labelSelector") or self.query.get("fieldSelector"))


def decoded(body: bytes, content_type: str) -> Manifest:
    """Return the object in a body of JSON, YAML or Kubernetes' protobuf.

    Raises:
        ApiError: 400 where it cannot be parsed, 415 where it is of another type.
    """
    parse = _PARSERS.get(content_type)
    if parse is None:
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        )
    try:
        parsed = parse(body)
    except protobuf.Unreadable as error:
        raise unsupported_media_type(str(error)) from error
    except ValueError as error:
        raise bad_request(f"the object provided is unrecognized (must be of type object): {error}") from error
    if not isinstance(parsed, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    return parsed


def _yaml(body: bytes) -> Any:
    import yaml

    try:
        return yaml.safe_load(body)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def parsed_json(body: bytes) -> Any:
    """Return what the JSON says.

    Raises:
        ValueError: it is none.
    """
    parsed = json.loads(body, parse_constant=_no_constant, parse_float=_number)
    if b"\\u" in body:
        # Half of a surrogate pair is no character, and could not be stored; UnicodeEncodeError is a ValueError.
        json.dumps(parsed, ensure_ascii=False).encode()
    return parsed


def _number(text: str) -> float:
    """Return `3.0` as 3, for that is how a real server gives it back, and how a field of type integer is read."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_PARSERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "application/json": parsed_json,
    "": parsed_json,
    "application/yaml": _yaml,
    "text/yaml": _yaml,
    protobuf.CONTENT_TYPE: protobuf.decode,
}
