"""Schemas of the built-in kinds, from `kubernetes-validate`, in the shape of a CustomResourceDefinition's.

The package holds one file with every definition of Kubernetes. It is read on first use, without descriptions, and only
what our kinds reach is kept: a laptop should not pay for Deployments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from kaito_ray.local.apiserver.resources import BUILT_IN, Kind

KUBERNETES: Final = "1.36"
"""The version whose API is served."""

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_ANYTHING: Final = {"x-kubernetes-preserve-unknown-fields": True}
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_KEPT: Final = (
    "required",
    "format",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
)

Schema = dict[str, Any]


def schema_of(kind: Kind) -> Schema:
    """Return the schema of a built-in kind."""
    return _load()[f"{kind.group}/{kind.version}/{kind.kind}"]


def object_meta() -> Schema:
    """Return the schema of `metadata`, which is the same for every kind."""
    return _load()[_META]


def definitions(*, described: bool) -> Mapping[str, Any]:
    """Return every definition of Kubernetes as the package has it, with descriptions or without."""
    path = f"kubernetes-json-schema/v{KUBERNETES}.0-local/_definitions.json"
    text = files("kubernetes_validate").joinpath(path).read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = json.loads(text, object_hook=None if described else _undescribed)["$defs"]
    return loaded


def name_of(ref: str) -> str:
    """Return the name of the definition that a `$ref` points to."""
    return ref.rpartition("/")[2]


def roots(found: Mapping[str, Any]) -> dict[str, Kind]:
    """Return the definitions that are our built-in kinds, by name."""
    wanted = {(kind.group, kind.version, kind.kind): kind for kind in BUILT_IN}
    names: dict[str, Kind] = {}
    for name, definition in found.items():
        for gvk in definition.get("x-kubernetes-group-version-kind") or ():
            kind = wanted.get((gvk["group"], gvk["version"], gvk["kind"]))
            if kind:
                names[name] = kind
    return names


def _undescribed(node: dict[str, Any]) -> dict[str, Any]:
    if isinstance(node.get("description"), str):
        del node["description"]
    return node


@lru_cache(maxsize=1)
def _load() -> dict[str, Schema]:
    found = definitions(described=False)
    converted: dict[str, Schema] = {}
    result = {f"{k.group}/{k.version}/{k.kind}": _named(n, found, converted) for n, k in roots(found).items()}
    return {**result, _META: _named(_META, found, converted)}


def _named(name: str, found: Mapping[str, Any], converted: dict[str, Schema]) -> Schema:
    """Convert a definition once; a definition that contains itself finds the same dict again."""
    if name not in converted:
        target = converted[name] = {}
        target.update(_converted(found[name], name, found, converted))
        if "properties" in target:
            target["title"] = name.rpartition(".")[2]
    return converted[name]


def _converted(node: Any, name: str, found: Mapping[str, Any], converted: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        inner = _named(name_of(node["$ref"]), found, converted)
        more = {key: node[key] for key in _KEPT if key in node}
        return {**inner, **more} if more else inner
    if name == _QUANTITY:
        return {}
    if name == _INT_OR_STRING:
        return {"x-kubernetes-int-or-string": True}
    types = node.get("type")
    if types is None and "properties" not in node:
        return dict(_ANYTHING)
    schema: Schema = {"type": next(one for one in types if one != "null") if isinstance(types, list) else types}
    schema.update({key: node[key] for key in _KEPT if key in node})
    if "properties" in node:
        schema["properties"] = {key: _converted(part, "", found, converted) for key, part in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            schema[key] = _converted(node[key], "", found, converted)
    if schema["type"] == "object" and not schema.keys() & {"properties", "additionalProperties"}:
        schema.update(_ANYTHING)
    return schema
