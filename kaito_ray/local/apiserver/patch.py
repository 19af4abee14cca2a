"""The patch kinds: JSON patch, JSON merge patch, and strategic merge patch for the built-in kinds."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import call
from kaito_ray.local.apiserver.resources import Kind
from kaito_ray.local.apiserver.status import (
    ApiError,
    FieldError,
    bad_request,
    invalid,
    unsupported_media_type,
)

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = ("application/apply-patch+yaml", "application/apply-patch+cbor")

_DIRECTIVE: Final = "$patch"
_DELETE_PRIMITIVE: Final = "$deleteFromPrimitiveList/"
_ORDER: Final = "$setElementOrder/"
_RETAIN: Final = "$retainKeys"

Manifest = dict[str, Any]


def check_type(content_type: str, kind: Kind) -> None:
    """Check that a patch of this type is read for this kind.

    Raises:
        ApiError: 415, with what to use instead.
    """
    if content_type in APPLY_PATCH:
        raise unsupported_media_type(
            "server-side apply is not served by this embedded API server: use `kubectl apply` without --server-side"
        )
    accepted = [JSON_PATCH, MERGE_PATCH, *([] if kind.custom else [STRATEGIC_PATCH])]
    if content_type not in accepted:
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
        )


def apply(content_type: str, body: bytes, current: Manifest, kind: Kind, schema: Mapping[str, Any]) -> Manifest:
    """Return `current` with the patch applied; `current` itself stays as it is.

    Raises:
        ApiError: 415 for a patch kind that is not read here, 400 where it cannot be parsed, 422 where it does not fit.
    """
    check_type(content_type, kind)
    if content_type == JSON_PATCH:
        return _json_patch(_parsed(body, list), current)
    if content_type == MERGE_PATCH:
        import json_merge_patch

        merged: Manifest = json_merge_patch.merge(copy.deepcopy(current), _parsed(body, dict))
        return merged
    result: Manifest = strategic(copy.deepcopy(current), _parsed(body, dict), schema)
    return result


def _parsed(body: bytes, wanted: type) -> Any:
    try:
        parsed = call.parsed_json(body)
    except ValueError as error:
        raise bad_request(f"error decoding patch: {error}") from error
    if not isinstance(parsed, wanted):
        what = "an array of operations" if wanted is list else "an object"
        raise bad_request(f"error decoding patch: the body must be {what}")
    return parsed


def _json_patch(operations: list[Any], current: Manifest) -> Manifest:
    import jsonpatch
    import jsonpointer

    try:
        patched: Manifest = jsonpatch.apply_patch(current, operations)
    except jsonpatch.JsonPatchTestFailed as error:
        raise _unprocessable(f"testing value failed: {error}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise _unprocessable(str(error)) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_request(f"error decoding patch: {error}") from error
    return patched


def _unprocessable(why: str) -> ApiError:
    message = f"the server rejected our request due to an error in our request: {why}"
    return ApiError(422, "Invalid", message, {})


def strategic(current: Any, patch: Manifest, schema: Mapping[str, Any]) -> Any:
    """Merge `patch` into `current`, lists by their merge key where the schema names one."""
    directive = patch.pop(_DIRECTIVE, None)
    if directive == "replace":
        return patch
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type: {directive}")
    if not isinstance(current, dict):
        current = {}
    retained = patch.pop(_RETAIN, None)
    if retained is not None:
        current = {key: value for key, value in current.items() if key in retained}
    for key in [key for key in patch if key.startswith(_DELETE_PRIMITIVE)]:
        field, gone = key.removeprefix(_DELETE_PRIMITIVE), patch.pop(key)
        if isinstance(current.get(field), list):
            current[field] = [value for value in current[field] if value not in gone]
    orders = {key.removeprefix(_ORDER): patch.pop(key) for key in [k for k in patch if k.startswith(_ORDER)]}
    properties = schema.get("properties") or {}
    rest = schema.get("additionalProperties")
    for key, value in patch.items():
        inner = properties.get(key) or (rest if isinstance(rest, Mapping) else {})
        if value is None:
            current.pop(key, None)
        elif isinstance(value, dict):
            current[key] = strategic(current.get(key), value, inner)
        elif isinstance(value, list) and inner.get("x-kubernetes-patch-strategy", "").startswith("merge"):
            current[key] = _merge_list(current.get(key) or [], value, inner)
        else:
            current[key] = value
    for key, order in orders.items():
        if isinstance(current.get(key), list):
            current[key] = _ordered(
                current[key], order, (properties.get(key) or {}).get("x-kubernetes-patch-merge-key")
            )
    return current


def _merge_list(current: list[Any], patch: list[Any], schema: Mapping[str, Any]) -> list[Any]:
    merge_key = schema.get("x-kubernetes-patch-merge-key")
    if merge_key is None:
        return current + [value for value in patch if value not in current]
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and item.get(_DIRECTIVE) == "replace")]
    merged = list(current)
    for item in patch:
        if not isinstance(item, dict) or merge_key not in item:
            raise bad_request(f"map: {json.dumps(item)} does not contain declared merge key: {merge_key}")
        place = next((i for i, one in enumerate(merged) if one.get(merge_key) == item[merge_key]), None)
        if item.get(_DIRECTIVE) == "delete":
            merged = [one for one in merged if one.get(merge_key) != item[merge_key]]
        elif place is None:
            merged.append({key: value for key, value in item.items() if key != _DIRECTIVE})
        else:
            merged[place] = strategic(merged[place], item, schema.get("items") or {})
    return merged


def _ordered(values: list[Any], order: list[Any], merge_key: str | None) -> list[Any]:
    """Return the values in the order that the patch states; those it does not name stay behind those they followed."""

    def key(value: Any) -> Any:
        return value.get(merge_key) if merge_key and isinstance(value, dict) else value

    wanted = [one.get(merge_key) if merge_key and isinstance(one, dict) else one for one in order]
    named = sorted((value for value in values if key(value) in wanted), key=lambda value: wanted.index(key(value)))
    queue = iter(named)
    return [next(queue) if key(value) in wanted else value for value in values]


def strict_patch_error(patched: Manifest, why: str) -> ApiError:
    """Return the refusal of a patch whose result has fields that the schema does not know."""
    body = json.dumps(json.dumps(patched, separators=(",", ":"), ensure_ascii=False), ensure_ascii=False)
    return invalid(None, "", [FieldError("FieldValueInvalid", "patch", f"Invalid value: {body}: {why}")])
