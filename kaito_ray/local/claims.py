"""PersistentVolumeClaims on one machine: each is a directory of the home, there for as long as the claim is."""

from __future__ import annotations

import shutil
from pathlib import Path

from kaito_ray.kube.cluster import PERSISTENT_VOLUME_CLAIMS, Manifest
from kaito_ray.local.home import PRIVATE_DIRECTORY
from kaito_ray.local.objects import Objects, deleting


async def bind(objects: Objects, directory: Path) -> None:
    """Make a directory for every claim and say that it is bound; remove those whose claim is gone."""
    claims = objects.all(PERSISTENT_VOLUME_CLAIMS)
    for claim in claims:
        if not deleting(claim):
            claim_directory(directory, claim["metadata"]["namespace"], claim["metadata"]["name"])
            await objects.replace_status(PERSISTENT_VOLUME_CLAIMS, claim, claim_status(claim))
    _remove_others(directory, {_name(claim["metadata"]["namespace"], claim["metadata"]["name"]) for claim in claims})


def claim_directory(directory: Path, namespace: str, name: str) -> Path:
    """Return the directory of a claim, made if need be."""
    path = directory / _name(namespace, name)
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    return path


def claim_status(claim: Manifest) -> Manifest:
    """Return the status of a bound claim. The capacity is the one asked for; the disk under it is shared."""
    spec = claim["spec"]
    return {
        "phase": "Bound",
        "accessModes": spec.get("accessModes", []),
        "capacity": spec.get("resources", {}).get("requests", {}),
    }


def _remove_others(directory: Path, kept: set[str]) -> None:
    for path in directory.iterdir():
        if path.name not in kept:
            shutil.rmtree(path)


def _name(namespace: str, name: str) -> str:
    return f"{namespace}_{name}"
