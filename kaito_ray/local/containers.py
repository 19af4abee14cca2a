"""What a pod template says about its container's environment, worked out. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import Manifest

Lookup = Callable[[str], Mapping[str, bytes] | None]
"""Name of a Secret or ConfigMap -> its content, or None."""

_REFERENCE: Final = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class MissingReference(KaitoRayError):
    """The container names a Secret, a ConfigMap or a key that does not exist."""

    reason = "CreateContainerConfigError"


def content(item: Manifest) -> dict[str, bytes]:
    """Return the entries of a Secret or ConfigMap."""
    plain = {key: text.encode() for key, text in (item.get("stringData") or {}).items()}
    if item["kind"] == "ConfigMap":
        return {**plain, **{key: text.encode() for key, text in (item.get("data") or {}).items()}}
    return {**plain, **{key: base64.b64decode(text) for key, text in (item.get("data") or {}).items()}}


def environment(pod: Manifest, container: Mapping[str, Any], *, secret: Lookup, config_map: Lookup) -> dict[str, str]:
    """Return the container's environment with every reference resolved.

    Raises:
        MissingReference: a Secret, a ConfigMap or a key that is not optional does not exist.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        for kind, lookup in (("secretRef", secret), ("configMapRef", config_map)):
            if reference := source.get(kind):
                entries = _entries(lookup, kind, reference)
                found.update({source.get("prefix", "") + key: value.decode() for key, value in entries.items()})
    for entry in container.get("env", []):
        value = _value(entry, pod, secret, config_map)
        if value is not None:
            found[entry["name"]] = _expanded(value, found)
    return found


def _value(entry: Mapping[str, Any], pod: Manifest, secret: Lookup, config_map: Lookup) -> str | None:
    if "valueFrom" not in entry:
        return str(entry.get("value", ""))
    source = entry["valueFrom"]
    for kind, lookup in (("secretKeyRef", secret), ("configMapKeyRef", config_map)):
        if reference := source.get(kind):
            entries = _entries(lookup, kind, reference)
            if reference["key"] in entries:
                return entries[reference["key"]].decode()
            if reference.get("optional"):
                return None
            raise MissingReference(f"{kind} {reference['name']!r} has no key {reference['key']!r}; add it")
    if field := source.get("fieldRef"):
        return _field(pod, field["fieldPath"])
    return None


def _entries(lookup: Lookup, kind: str, reference: Mapping[str, Any]) -> Mapping[str, bytes]:
    entries = lookup(reference["name"])
    if entries is None and not reference.get("optional"):
        raise MissingReference(f"{kind} names {reference['name']!r}, which does not exist; create it")
    return entries or {}


def _field(pod: Manifest, path: str) -> str:
    """Return a field of the pod, by the paths that the downward API knows."""
    found = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if found:
        return str(pod["metadata"].get(found[1], {}).get(found[2], ""))
    if path in ("status.podIP", "status.hostIP"):
        return "127.0.0.1"
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)


def _expanded(value: str, known: Mapping[str, str]) -> str:
    """Return `value` with `$(NAME)` replaced by an earlier variable; an unknown one stays as it is, as in a kubelet."""
    return _REFERENCE.sub(lambda m: "$" if m[0] == "$$" else known.get(m[1], m[0]), value)
