"""Reading the manifests that a person wrote, before any API server sees them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaito_ray.api import names
from kaito_ray.errors import UserError

if TYPE_CHECKING:
    from kaito_ray.api.workspace import Workspace


class UnreadableManifest(UserError):
    """The file is missing, is not YAML, or holds no Workspace."""

    reason = "UnreadableManifest"


class RefusedManifest(UserError):
    """A Workspace that no API server would store."""

    reason = "InvalidWorkspace"


@dataclass(frozen=True)
class Manifests:
    """What one file holds: Workspaces, and the ConfigMaps that they may name."""

    workspaces: tuple[Mapping[str, Any], ...]
    config_maps: Mapping[str, Mapping[str, Any]]


def read(path: Path) -> Manifests:
    """Return the Workspaces and ConfigMaps in a file of YAML documents; `-` is standard input.

    Raises:
        UnreadableManifest: the message names the file, and the line where there is one.
    """
    import yaml

    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except OSError as error:
        raise UnreadableManifest(f"--filename: cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UnreadableManifest(f"--filename: {path} is not YAML: {error}") from error
    return sort_out(documents, source=str(path))


def admitted(manifest: Mapping[str, Any]) -> Workspace:
    """Return the Workspace, as an API server with our webhook would store it.

    Raises:
        RefusedManifest: admission refuses it; the message has every reason.
    """
    from kaito_ray.api import admission
    from kaito_ray.api.workspace import Workspace
    from kaito_ray.catalog.load import presets

    known = {name for preset in presets().values() for name in preset.names}
    if refusals := admission.refusals(manifest, presets=known):
        raise RefusedManifest("; ".join(str(refusal) for refusal in refusals))
    return Workspace.from_wire(manifest)


def sort_out(documents: list[Any], *, source: str) -> Manifests:
    """Return the documents by kind; others than Workspaces and ConfigMaps are of no interest here.

    Raises:
        UnreadableManifest: a document is no Kubernetes object, or none is a Workspace.
    """
    for number, document in enumerate(documents, 1):
        metadata = document.get("metadata") if isinstance(document, dict) else None
        if not isinstance(metadata, dict) or not metadata.get("name"):
            raise UnreadableManifest(
                f"--filename: document {number} of {source} has no metadata.name, so it is no Kubernetes object"
            )
    found = tuple(d for d in documents if d.get("kind") == names.KIND)
    if not found:
        kinds = ", ".join(sorted({str(d.get("kind")) for d in documents})) or "nothing"
        raise UnreadableManifest(f"--filename: {source} holds no Workspace, but {kinds}")
    config_maps = {d["metadata"]["name"]: d for d in documents if d.get("kind") == "ConfigMap"}
    return Manifests(workspaces=found, config_maps=config_maps)
