"""CustomResourceDefinitions: what is wrong with one, the status that says it is served, and its schemas on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import builtin_schemas, cel, jsonpath, metadata
from kaito_ray.local.apiserver.resources import CRD, Kind
from kaito_ray.local.apiserver.schema import compiled, join
from kaito_ray.local.apiserver.status import (
    FieldError,
    forbidden_field,
    immutable,
    invalid_value,
    required,
    unsupported,
)
from kaito_ray.local.apiserver.store import Store

CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"
"""Finalizer that keeps a CustomResourceDefinition until the last of its objects is gone."""

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")

Manifest = dict[str, Any]
Schema = Mapping[str, Any]


class Schemas:
    """Schemas of all kinds, each read on first use; equal parts are held once, for they are many and big."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], tuple[Schema, list[Mapping[str, Any]]]] = {}

    def of(self, kind: Kind) -> Schema:
        """Return the schema of a kind."""
        return self._custom(kind)[0] if kind.custom else builtin_schemas.schema_of(kind)

    def printer_columns(self, kind: Kind) -> list[Mapping[str, Any]]:
        """Return `additionalPrinterColumns` of a custom kind, nothing for a built-in one."""
        return self._custom(kind)[1] if kind.custom else []

    def forget(self) -> None:
        """Read schemas again on next use: a CustomResourceDefinition changed."""
        self._known.clear()
        cel.forget()

    def _custom(self, kind: Kind) -> tuple[Schema, list[Mapping[str, Any]]]:
        key = (kind.group_resource, kind.version)
        if key not in self._known:
            crd = self._store.get(CRD.key, "", kind.group_resource)
            version = next(one for one in (crd or {})["spec"]["versions"] if one["name"] == kind.version)
            schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            self._known[key] = (shared(schema), version.get("additionalPrinterColumns") or [])
        return self._known[key]


def shared(schema: Schema) -> Schema:
    """Return the schema without descriptions, equal parts being one object. Pod templates repeat without end."""
    pool: dict[tuple[Any, ...], Any] = {}

    def once(value: Any) -> Any:
        if isinstance(value, dict):
            parts = {k: once(v) for k, v in value.items() if not (k == "description" and isinstance(v, str))}
            key: tuple[Any, ...] = ("d", *((k, id(v)) for k, v in parts.items()))
            return pool.setdefault(key, parts)
        if isinstance(value, list):
            items = [once(item) for item in value]
            return pool.setdefault(("l", *map(id, items)), items)
        return pool.setdefault((type(value).__name__, value), value)

    result: Schema = once(schema)
    return result


def fill_defaults(crd: Manifest) -> None:
    """Fill in what may be left out."""
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})


def check(crd: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    """Return what is wrong with a CustomResourceDefinition, every rule in CEL compiled."""
    spec = crd.get("spec") or {}
    names = spec.get("names") or {}
    errors: list[FieldError] = []
    wanted = f"{names.get('plural', '')}.{spec.get('group', '')}"
    if crd["metadata"].get("name") != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        errors.append(invalid_value("metadata.name", crd["metadata"].get("name"), detail))
    errors += [required(f"spec.{field}") for field in ("group", "scope") if not spec.get(field)]
    errors += [required(f"spec.names.{field}") for field in ("plural", "kind") if not names.get(field)]
    if spec.get("scope") not in (None, "Namespaced", "Cluster"):
        errors.append(unsupported("spec.scope", spec["scope"], ("Cluster", "Namespaced")))
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        detail = "this embedded API server converts between versions by name alone: use strategy None"
        errors.append(forbidden_field("spec.conversion.strategy", detail))
    errors += _check_versions(spec.get("versions") or [])
    if old is not None:
        errors += _check_update(spec, old["spec"])
    return errors


def established(crd: Manifest) -> None:
    """Write the status of a CustomResourceDefinition that is served, in place."""
    spec, status = crd["spec"], crd.setdefault("status", {})
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    for name, reason, message in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        if conditions.get(name, {}).get("status") != "True":
            conditions[name] = {
                "type": name,
                "status": "True",
                "lastTransitionTime": metadata.now(),
                "reason": reason,
                "message": message,
            }
    status["conditions"] = list(conditions.values())
    status["acceptedNames"] = spec["names"]
    stored = next(one["name"] for one in spec["versions"] if one.get("storage"))
    known = status.get("storedVersions") or []
    status["storedVersions"] = known if stored in known else [*known, stored]


def _check_versions(versions: list[Mapping[str, Any]]) -> Iterator[FieldError]:
    if sum(bool(one.get("storage")) for one in versions) != 1:
        yield invalid_value("spec.versions", versions, "must have exactly one version marked as storage version")
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            yield required(f"{where}.schema.openAPIV3Schema", "schemas are required")
            continue
        path = f"{where}.schema.openAPIV3Schema"
        if schema.get("type") != "object":
            yield (
                required(f"{path}.type", "must not be empty at the root")
                if not schema.get("type")
                else invalid_value(f"{path}.type", schema["type"], "must be object at the root")
            )
        yield from _check_schema(schema, path)
        for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
            yield from _check_column(column, f"{where}.additionalPrinterColumns[{number}]")


def _check_column(column: Mapping[str, Any], where: str) -> Iterator[FieldError]:
    try:
        jsonpath.compiled(column.get("jsonPath", ""))
    except ValueError as error:
        yield invalid_value(f"{where}.jsonPath", column.get("jsonPath"), str(error))
    if column.get("type") not in ("boolean", "date", "integer", "number", "string"):
        yield unsupported(f"{where}.type", column.get("type"), ("boolean", "date", "integer", "number", "string"))


def _check_schema(schema: Any, path: str, seen: set[int] | None = None) -> Iterator[FieldError]:
    """Check each distinct part once: structural form, patterns, and every rule."""
    seen = set() if seen is None else seen
    if not isinstance(schema, Mapping) or id(schema) in seen:
        return
    seen.add(id(schema))
    wanted = schema.get("type")
    loose = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if wanted is None and not loose:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    elif wanted is not None and wanted not in _TYPES:
        yield unsupported(f"{path}.type", wanted, _TYPES)
    if wanted == "array" and not isinstance(schema.get("items"), Mapping):
        yield required(f"{path}.items", "must be specified")
    if schema.get("properties") and schema.get("additionalProperties"):
        yield forbidden_field(
            f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive"
        )
    if "pattern" in schema:
        try:
            compiled(schema["pattern"])
        except Exception as error:  # `re.error`, and RecursionError on a hostile pattern: both mean it cannot be used
            yield invalid_value(
                f"{path}.pattern", schema["pattern"], f"must be a valid regular expression, but isn't: {error}"
            )
    for index, rule in enumerate(cel.rules_of(schema)):
        yield from _check_rule(rule, f"{path}.x-kubernetes-validations[{index}]")
    for name, part in (schema.get("properties") or {}).items():
        yield from _check_schema(part, f"{path}.properties[{name}]", seen)
    for name in ("items", "additionalProperties"):
        yield from _check_schema(schema.get(name), join(path, name), seen)


def _check_rule(rule: Mapping[str, Any], where: str) -> Iterator[FieldError]:
    if not (rule.get("rule") or "").strip():
        yield required(f"{where}.rule", "rule is not specified")
        return
    for field in ("rule", "messageExpression"):
        if rule.get(field):
            try:
                cel.program(rule[field])
            except cel.Unsupported as error:
                yield invalid_value(f"{where}.{field}", rule, f"compilation failed: {error}")


def _check_update(spec: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[FieldError]:
    if spec.get("scope") != old.get("scope"):
        yield immutable("spec.scope", spec.get("scope"))
    if (spec.get("names") or {}).get("kind") != old["names"]["kind"]:
        yield immutable("spec.names.kind", (spec.get("names") or {}).get("kind"))
