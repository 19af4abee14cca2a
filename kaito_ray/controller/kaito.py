"""What KAITO's objects look like, so that they are told from ours and from anybody else's. Pure."""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.kube.cluster import Manifest

POOL_WORKSPACE: Final = "karpenter.kaito.sh/workspace-name"
"""Label of NodePools, NodeClaims and Nodes that KAITO makes by Karpenter."""
POOL_NAMESPACE: Final = "karpenter.kaito.sh/workspace-namespace"
REVISION_OF: Final = "workspace.kaito.io/name"
"""Label of KAITO's ControllerRevisions."""
MARKS: Final = ("workspace.kaito.io/hash", "workspace.kaito.io/revision")
"""Annotations that KAITO writes on a Workspace."""


def is_ours(manifest: Manifest) -> bool:
    """Return whether this operator wrote the object."""
    return labels(manifest).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY


def made_by_karpenter_for(manifest: Manifest, namespace: str, workspace: str) -> bool:
    """Return whether KAITO had Karpenter make that NodePool, NodeClaim or Node for the Workspace."""
    found = labels(manifest)
    return (found.get(POOL_NAMESPACE), found.get(POOL_WORKSPACE)) == (namespace, workspace)


def labels(manifest: Manifest) -> dict[str, str]:
    """Return the labels of an object."""
    return dict(manifest["metadata"].get("labels") or {})
