"""A container's volumes, as directories of this machine.

A container gets its Secrets, ConfigMaps and claims under absolute paths. A process on a laptop has no file system of
its own, so those paths appear below a directory of the pod, and `KAITO_RAY_MOUNT_ROOT` says which: `/mnt/keys` is
`$KAITO_RAY_MOUNT_ROOT/mnt/keys`. The files follow the Secret while the container runs, as they do under a kubelet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import Manifest
from kaito_ray.local.claims import claim_directory
from kaito_ray.local.containers import Lookup
from kaito_ray.local.home import PRIVATE_DIRECTORY, write_private

_FILES: Final = {"secret": "secretName", "configMap": "name"}
"""Kinds of volume that are filled with files, and the field that names their object."""


class UnsupportedVolume(KaitoRayError):
    """A kind of volume that one machine does not have."""

    reason = "CreateContainerConfigError"


@dataclass(frozen=True)
class Places:
    """Where things are."""

    pod: Path
    """The pod's directory."""
    claims: Path
    """The directory of all claims."""
    objects: Mapping[str, Lookup]
    """Under `secret` and `configMap`, how to look one up by name."""


def write_volumes(pod: Manifest, container: Mapping[str, Any], places: Places) -> Path:
    """Bring the container's volumes up to date; return the directory that stands for its file system's root.

    Secrets and ConfigMaps that do not exist are empty directories until they do.

    Raises:
        UnsupportedVolume: a volume is of a kind that one machine does not have.
    """
    root = places.pod / "rootfs"
    root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        source = _source(pod["metadata"]["namespace"], volumes[mount["name"]], places)
        _link(root / _inside(mount["mountPath"]), source / _inside(mount.get("subPath", "")))
    return root


def _source(namespace: str, volume: Mapping[str, Any], places: Places) -> Path:
    """Return the directory of a volume, filled."""
    (kind,) = set(volume) - {"name"} or {"emptyDir"}
    if kind == "hostPath":
        return Path(volume[kind]["path"])
    if kind == "persistentVolumeClaim":
        return claim_directory(places.claims, namespace, volume[kind]["claimName"])
    if kind != "emptyDir" and kind not in _FILES:
        raise UnsupportedVolume(
            f"volume {volume['name']!r} is of kind {kind}, which this machine does not have; "
            "use emptyDir, secret, configMap, hostPath or persistentVolumeClaim"
        )
    directory: Path = places.pod / "volumes" / volume["name"]
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    if kind in _FILES:
        everything = places.objects[kind](volume[kind][_FILES[kind]]) or {}
        items = volume[kind].get("items") or [{"key": key, "path": key} for key in everything]
        _fill(directory, {_inside(i["path"]): everything[i["key"]] for i in items if i["key"] in everything})
    return directory


def _fill(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make the directory hold exactly these files; what is the same is not touched."""
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    for gone in present - set(files):
        (directory / gone).unlink()
    for name, content in files.items():
        path = directory / name
        if not path.is_file() or path.read_bytes() != content:
            write_private(path, content)


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink() or link.readlink() != target:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _inside(path: str) -> str:
    """Return a path relative to where it belongs; one that would lead out of there ends at its top."""
    return os.path.normpath(f"/{path}").lstrip("/")
