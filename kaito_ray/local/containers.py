"""What a pod template says about its container's environment and files, worked out. Pure, but for writing volumes.

A container gets its Secrets and ConfigMaps as files under absolute paths. A process on a laptop has no file system of
its own, so those paths appear below a directory of the pod, and `KAITO_RAY_MOUNT_ROOT` says which: `/mnt/keys` is
`$KAITO_RAY_MOUNT_ROOT/mnt/keys`. The files follow the Secret while the container runs, as they do under a kubelet.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import Manifest
from kaito_ray.local.home import PRIVATE_DIRECTORY, write_private

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


def write_volumes(
    pod: Manifest, container: Mapping[str, Any], root: Path, *, secret: Lookup, config_map: Lookup
) -> Path:
    """Bring the container's volumes on disk up to date; return the directory that stands for its file system root.

    `root` is the pod's directory. Secrets and ConfigMaps that do not exist are empty directories until they do.
    """
    mounted = root / "rootfs"
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    mounted.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for mount in container.get("volumeMounts", []):
        source = _written(volumes[mount["name"]], root / "volumes" / mount["name"], secret, config_map)
        link = mounted / mount["mountPath"].lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        target = source / mount.get("subPath", "")
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return mounted


def _written(volume: Mapping[str, Any], directory: Path, secret: Lookup, config_map: Lookup) -> Path:
    if path := volume.get("hostPath", {}).get("path"):
        return Path(path)
    if claim := volume.get("persistentVolumeClaim", {}).get("claimName"):
        # Kept beside the pods, for a claim outlives them.
        directory = directory.parents[2] / "claims" / claim
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    entries: Mapping[str, bytes] | None = None
    for kind, name, lookup in (("secret", "secretName", secret), ("configMap", "name", config_map)):
        if source := volume.get(kind):
            everything = lookup(source[name]) or {}
            items = source.get("items") or [{"key": key, "path": key} for key in everything]
            entries = {item["path"]: everything[item["key"]] for item in items if item["key"] in everything}
    if entries is not None:
        _match(directory, entries)
    return directory


def _match(directory: Path, entries: Mapping[str, bytes]) -> None:
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    for gone in present - set(entries):
        (directory / gone).unlink()
    for name, data in entries.items():
        path = directory / os.path.normpath("/" + name).lstrip("/")
        if not path.is_file() or path.read_bytes() != data:
            write_private(path, data)


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
