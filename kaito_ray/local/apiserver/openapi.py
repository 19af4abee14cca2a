"""OpenAPI v3 documents: what `kubectl explain` shows, and what tells kubectl that the server validates fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from kaito_ray.local.apiserver import builtin_schemas
from kaito_ray.local.apiserver.resources import CRD, Kind, Registry
from kaito_ray.local.apiserver.store import Store

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_STRING: Final = {"type": "string"}
_API_VERSION: Final = {
    **_STRING,
    "description": (
        "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
        "schemas to the latest internal value, and may reject unrecognized values."
    ),
}
_KIND: Final = {
    **_STRING,
    "description": "Kind is a string value representing the REST resource this object represents. In CamelCase.",
}
_QUERY: Final = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def index(registry: Registry, revision: int) -> dict[str, Any]:
    """Return `/openapi/v3`: where the document of each group and version is. The hash changes with every CRD."""
    paths = {}
    for path in sorted({_path(kind) for kind in registry.kinds()}):
        digest = sha256(f"{path} {revision}".encode()).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def document(registry: Registry, store: Store, path: str) -> dict[str, Any] | None:
    """Return the document of one group and version (`api/v1`, `apis/kaito.sh/v1beta1`), None where there is none."""
    kinds = [kind for kind in registry.kinds() if _path(kind) == path]
    if not kinds:
        return None
    built_in = builtin_schemas.definitions(described=True)
    schemas: dict[str, Any] = {}
    names: dict[Kind, str] = {}
    known = {kind: name for name, kind in builtin_schemas.roots(built_in).items()}
    for kind in kinds:
        if kind.custom:
            names[kind] = ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
            schemas[names[kind]] = _custom(kind, store)
            _collect(_META, built_in, schemas)
        else:
            names[kind] = known[kind]
            _collect(names[kind], built_in, schemas)
    return {
        "openapi": "3.0.0",
        "info": {"title": "kaito-ray", "version": f"v{builtin_schemas.KUBERNETES}.0"},
        "paths": {route: item for kind in kinds for route, item in _routes(kind, names[kind])},
        "components": {"schemas": schemas},
    }


def _path(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"


def _custom(kind: Kind, store: Store) -> dict[str, Any]:
    crd = store.get(CRD.key, "", kind.group_resource) or {}
    version = next(one for one in crd["spec"]["versions"] if one["name"] == kind.version)
    schema = dict((version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"})
    common = {
        "apiVersion": _API_VERSION,
        "kind": _KIND,
        "metadata": {
            "allOf": [{"$ref": f"#/components/schemas/{_META}"}],
            "default": {},
            "description": "Standard object's metadata.",
        },
    }
    schema["properties"] = {**(schema.get("properties") or {}), **common}
    schema["x-kubernetes-group-version-kind"] = [_gvk(kind)]
    return schema


def _gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _collect(name: str, found: Mapping[str, Any], into: dict[str, Any]) -> None:
    """Add a definition and all that it refers to, in the form of OpenAPI v3."""
    if name in into:
        return
    into[name] = {}
    into[name] = _converted(found[name])
    for ref in _refs(found[name]):
        _collect(ref, found, into)


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield builtin_schemas.name_of(node["$ref"])
        for part in node.values():
            yield from _refs(part)
    elif isinstance(node, list):
        for part in node:
            yield from _refs(part)


def _converted(node: Any) -> Any:
    if isinstance(node, list):
        return [_converted(part) for part in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        ref = {"$ref": f"#/components/schemas/{builtin_schemas.name_of(node['$ref'])}"}
        more = {key: _converted(part) for key, part in node.items() if key != "$ref"}
        return {"allOf": [ref], "default": {}, **more} if more else ref
    converted = {key: _converted(part) for key, part in node.items()}
    if isinstance(node.get("type"), list):
        converted["type"] = next(one for one in node["type"] if one != "null")
    return converted


def _routes(kind: Kind, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    base = f"/{_path(kind)}" + ("/namespaces/{namespace}" if kind.namespaced else "") + f"/{kind.plural}"
    body = {"*/*": {"schema": {"$ref": f"#/components/schemas/{name}"}}}

    def operation(action: str, *, writes: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = {
            "operationId": f"{action}{kind.version}{kind.kind}",
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(kind),
            "responses": {"200": {"description": "OK", "content": {"application/json": body["*/*"]}}},
        }
        if writes:
            made["parameters"] = _QUERY
            made["requestBody"] = {"required": True, "content": body}
        return made

    yield base, {"get": operation("list"), "post": operation("post", writes=True)}
    one = {
        "get": operation("get"),
        "put": operation("put", writes=True),
        "patch": operation("patch", writes=True),
        "delete": {**operation("delete"), "parameters": _QUERY},
    }
    yield f"{base}/{{name}}", one
