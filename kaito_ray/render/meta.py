"""Metadata that every child of a Workspace carries."""

from __future__ import annotations

from kaito_ray.api import names
from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest


def child_meta(workspace: Workspace, name: str) -> Manifest:
    """Return the metadata of a namespaced child: owned by the Workspace, so that it goes when the Workspace goes."""
    meta = workspace.metadata
    owner = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": meta.namespace, "labels": child_labels(workspace), "ownerReferences": [owner]}


def child_labels(workspace: Workspace) -> dict[str, str]:
    """Return the labels of any child."""
    return {**names.MANAGED_LABELS, **pod_labels(workspace)}


def pod_labels(workspace: Workspace) -> dict[str, str]:
    """Return the two labels that tie pods, nodes and claims to the Workspace; KAITO's names."""
    meta = workspace.metadata
    return {names.WORKSPACE_LABEL: meta.name, names.WORKSPACE_NAMESPACE_LABEL: meta.namespace}
