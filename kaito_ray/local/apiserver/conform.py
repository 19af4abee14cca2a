"""From what a client sent to what may be stored: types, unknown fields, defaults, rules. Pure but for schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import builtin_schemas, builtins, crds, events_v1, metadata, patch, schema
from kaito_ray.local.apiserver.call import Call, Manifest
from kaito_ray.local.apiserver.crds import Schemas
from kaito_ray.local.apiserver.resources import CRD, EVENT_V1, Kind
from kaito_ray.local.apiserver.status import FieldError, bad_request, invalid

_GO: Final = {"integer": "number", "boolean": "bool", "null": "null"}


def accepted(call: Call, manifest: Manifest, schemas: Schemas, *, patched: bool = False) -> Manifest:
    """Return the sent object in its stored form, unknown fields dropped.

    Raises:
        ApiError: 400 for another kind or version, wrong types, or (with fieldValidation=Strict) unknown fields.
    """
    kind = call.kind
    _check_kind(manifest, kind)
    if not kind.custom:
        manifest = builtins.without_nulls(manifest)
    meta = manifest.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise _undecodable(
            kind, f"json: cannot unmarshal {_go(meta)} into Go struct field {kind.kind}.metadata of type ObjectMeta"
        )
    for key in [key for key, value in meta.items() if value is None]:
        del meta[key]
    found = schemas.of(kind)
    _check_types(meta, builtin_schemas.object_meta(), kind, "metadata")
    if not kind.custom:
        _check_types(manifest, found, kind, "")
    unknown = schema.prune(manifest, found)
    unknown += schema.prune(meta, builtin_schemas.object_meta(), "metadata", root=False)
    _report(call, manifest, unknown, patched=patched)
    if kind.key == EVENT_V1.key and kind.group == EVENT_V1.group:
        return events_v1.to_stored(manifest)
    if kind.custom:
        manifest["apiVersion"] = f"{kind.group}/{kind.storage_version}"
    return manifest


def viewed(manifest: Manifest, kind: Kind) -> Manifest:
    """Return a stored object in the version that was asked for."""
    if kind.key == EVENT_V1.key and kind.group == EVENT_V1.group:
        return events_v1.from_stored(manifest)
    return {**manifest, "apiVersion": kind.api_version} if kind.custom else manifest


def fill_defaults(manifest: Manifest, kind: Kind, schemas: Schemas) -> None:
    """Fill in defaults, in place."""
    if kind.custom:
        schema.fill_defaults(manifest, schemas.of(kind))
        return
    builtins.fill_defaults(kind, manifest)
    if kind.key == CRD.key:
        crds.fill_defaults(manifest)


def check(manifest: Manifest, kind: Kind, schemas: Schemas, old: Mapping[str, Any] | None = None) -> None:
    """Judge a complete object.

    Raises:
        ApiError: 422, with every error.
    """
    errors: list[FieldError] = metadata.check(manifest, kind, old)
    before = schema.MISSING if old is None else old
    if kind.custom:
        errors += schema.validate(manifest, schemas.of(kind), old=before)
    else:
        required = schema.structure(manifest, schemas.of(kind)) if kind.key != CRD.key else ()
        errors += [one for one in required if one.field.startswith("spec") and one.type == "FieldValueRequired"]
        errors += builtins.check(kind, manifest, old)
        errors += crds.check(manifest, old) if kind.key == CRD.key else []
    if errors:
        unique = list(dict.fromkeys(errors))
        raise invalid(kind, manifest["metadata"].get("name", ""), unique)


def _check_kind(manifest: Manifest, kind: Kind) -> None:
    sent, named = manifest.setdefault("apiVersion", kind.api_version), manifest.setdefault("kind", kind.kind)
    if sent != kind.api_version:
        raise bad_request(
            f"the API version in the data ({sent}) does not match the expected API version ({kind.api_version})"
        )
    if named != kind.kind:
        raise bad_request(
            f'{named} in version "{kind.version}" cannot be handled as a {kind.kind}: '
            f"the kind in the data ({named}) does not match the expected kind ({kind.kind})"
        )


def _check_types(value: Manifest, found: schema.Schema, kind: Kind, path: str) -> None:
    for error in schema.structure(value, found, path):
        if error.type == "FieldValueTypeInvalid":
            is_a, wanted = error.body.split('"')[1], error.body.partition(" must be of type ")[2].partition(":")[0]
            where, form = _go_field(found, kind, path, error.field)
            types = {
                "integer": form or "int64",
                "boolean": "bool",
                "array": "slice",
                "object": "map",
                "number": "float64",
            }
            went = f"Go struct field {where} of type {types.get(wanted, wanted)}"
            raise _undecodable(kind, f"json: cannot unmarshal {_GO.get(is_a, is_a)} into {went}")


def _go_field(found: schema.Schema, kind: Kind, root: str, path: str) -> tuple[str, str]:
    """Return a field as Go names it: the innermost struct, then the path without indices and keys; and its format."""
    struct, names, here = found.get("title", kind.kind), [root] if root else [], found
    for step in re.findall(r"[^.\[\]]+", path.removeprefix(f"{root}.") if root else path):
        properties = here.get("properties") or {}
        if step in properties:
            struct, here = here.get("title", struct), properties[step]
            names.append(step)
        else:
            inner = here.get("items") if step.isdigit() and "items" in here else here.get("additionalProperties")
            here = inner if isinstance(inner, Mapping) else {}
    return f"{struct}.{'.'.join(names)}", here.get("format", "")


def _go(value: Any) -> str:
    name = schema.type_name(value)
    return _GO.get(name, name)


def _undecodable(kind: Kind, why: str) -> Exception:
    return bad_request(f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {why}')


def _report(call: Call, manifest: Manifest, unknown: list[str], *, patched: bool) -> None:
    words = [f'unknown field "{path}"' for path in unknown]
    if not words or call.field_validation == "Ignore":
        return
    if call.field_validation == "Warn":
        call.warnings += words
        return
    why = f"strict decoding error: {', '.join(words)}"
    if patched:
        raise patch.strict_patch_error(manifest, why)
    raise _undecodable(call.kind, why)
