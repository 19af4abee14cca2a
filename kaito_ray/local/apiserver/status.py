"""Status bodies: every refusal, worded as a kube-apiserver words it, because people and programs know those words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kaito_ray.local.apiserver.resources import Kind

MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True)
class FieldError:
    """One entry of a 422: `field` is a path, `body` the words after it."""

    type: str
    field: str
    body: str

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


class ApiError(Exception):
    """A refusal; `body` is the Status object that goes over the wire, `code` its HTTP status, `warnings` go along as headers."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.warnings: list[str] = []
        self.body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details is not None:
            self.body["details"] = {key: value for key, value in details.items() if value not in ("", None, [])}
        super().__init__(message)


def success(kind: Kind, name: str, uid: str) -> dict[str, Any]:
    """Return the Status that answers a finished deletion."""
    details = {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }


def _details(kind: Kind, name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "group": kind.group, "kind": kind.plural, **more}


def not_found(kind: Kind, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(404, "NotFound", f'{kind.group_resource} "{name}" not found', _details(kind, name))


class NoSuchPath(Exception):
    """404: no such kind or route; a real cluster answers that in plain text."""


def already_exists(kind: Kind, name: str) -> ApiError:
    """409: the name is taken."""
    return ApiError(409, "AlreadyExists", f'{kind.group_resource} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str = MODIFIED) -> ApiError:
    """409: somebody else wrote first, or a precondition failed."""
    message = f'Operation cannot be fulfilled on {kind.group_resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(kind, name))


def forbidden(kind: Kind, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> ApiError:
    """403: a rule of the server, not of permissions, forbids it."""
    named = f' "{name}"' if name else ""
    details = _details(kind, name, causes=list(causes))
    return ApiError(403, "Forbidden", f"{kind.group_resource}{named} is forbidden: {why}", details)


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def invalid(kind: Kind | None, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: fields break rules; every one is listed, once."""
    causes = [{"reason": error.type, "message": error.body, "field": error.field} for error in errors]
    lines = list(dict.fromkeys(str(error) for error in errors))
    text = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    what = kind.group_kind if kind else ""
    details = {"name": name, "group": kind.group if kind else "", "kind": kind.kind if kind else "", "causes": causes}
    return ApiError(422, "Invalid", f'{what} "{name}" is invalid: {text}', details)


def expired(message: str) -> ApiError:
    """410: that version is no longer kept; list again."""
    return ApiError(410, "Expired", message)


def unauthorized() -> ApiError:
    """401: no token, or a wrong one."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed(why: str = "the server does not allow this method on the requested resource") -> ApiError:
    """405: the route exists, the verb does not."""
    return ApiError(405, "MethodNotAllowed", why, {})


def unsupported_media_type(message: str) -> ApiError:
    """415: the body is in a format that is not read here."""
    return ApiError(415, "UnsupportedMediaType", message)


def too_large(message: str) -> ApiError:
    """413: the body is longer than is read here."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {message}", {})


def not_implemented(message: str) -> ApiError:
    """501: a real cluster has it, this server has not; the message says what to use instead."""
    return ApiError(501, "NotImplemented", message)


def internal(message: str) -> ApiError:
    """500."""
    text = f"Internal error occurred: {message}"
    return ApiError(500, "InternalError", text, {"causes": [{"message": message}]})


def quoted(value: Any) -> str:
    """Return the value as an error shows it: strings in quotes, numbers and booleans bare, the rest as JSON."""
    if value is None:
        return '"null"'
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def required(field: str, detail: str = "") -> FieldError:
    """A value is missing."""
    return FieldError("FieldValueRequired", field, "Required value" + (f": {detail}" if detail else ""))


def invalid_value(field: str, value: Any, detail: str, type: str = "FieldValueInvalid") -> FieldError:
    """A value is malformed."""
    return FieldError(type, field, f"Invalid value: {quoted(value)}: {detail}")


def immutable(field: str, value: Any) -> FieldError:
    """A value may not change."""
    return invalid_value(field, value, "field is immutable")


def unsupported(field: str, value: Any, allowed: Sequence[Any]) -> FieldError:
    """A value is not one of the allowed ones."""
    names = ", ".join(json.dumps(str(one) if isinstance(one, str) else json.dumps(one)) for one in allowed)
    return FieldError("FieldValueNotSupported", field, f"Unsupported value: {quoted(value)}: supported values: {names}")


def duplicate(field: str, value: Any) -> FieldError:
    """A value occurs twice where it must not."""
    return FieldError("FieldValueDuplicate", field, f"Duplicate value: {quoted(value)}")


def too_long(field: str, limit: int) -> FieldError:
    """A string is too long."""
    return FieldError("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def too_many(field: str, actual: int, limit: int) -> FieldError:
    """A list or map has too many entries."""
    return FieldError("FieldValueTooMany", field, f"Too many: {actual}: must have at most {limit} items")


def forbidden_field(field: str, detail: str) -> FieldError:
    """A value may not be set here."""
    return FieldError("FieldValueForbidden", field, f"Forbidden: {detail}")
