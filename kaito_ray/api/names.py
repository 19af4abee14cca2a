"""Labels, annotations, the finalizer, and the names of child objects."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final

GROUP: Final = os.environ.get("KAITO_RAY_API_GROUP", "kaito.sh")
"""The group of Workspace: KAITO's, or `ray.kaito.sh` to run beside KAITO in one cluster. One setting for a process."""
VERSION: Final = "v1beta1"
KIND: Final = "Workspace"
PLURAL: Final = "workspaces"

FINALIZER: Final = "workspace.finalizer.kaito.sh"
"""KAITO's own, so that either operator can finish what the other began."""

WORKSPACE_LABEL: Final = "kaito.sh/workspace"
WORKSPACE_NAMESPACE_LABEL: Final = "kaito.sh/workspacenamespace"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "kaito-ray"
MANAGED_LABELS: Final = {MANAGED_BY_LABEL: MANAGED_BY}

ENABLE_LB_ANNOTATION: Final = "kaito.sh/enablelb"
RUNTIME_ANNOTATION: Final = "kaito.sh/runtime"
PERFORMANCE_MODE_ANNOTATION: Final = "kaito.sh/performance-mode"
WORKER_IMAGE_ANNOTATION: Final = "ray.kaito.sh/worker-image"
"""Ours: the image of the Ray pods, in place of the one that the Workspace was first served with."""
RETRY_ANNOTATION: Final = "ray.kaito.sh/retry"
"""Ours: any new value starts new Ray pods, after a failure that no edit of the Workspace mends."""
ADOPT_ANNOTATION: Final = "ray.kaito.sh/adopt"
"""Ours: take a Workspace over while KAITO's children are still there; `kaito-ray migrate` writes and removes it."""
NODE_CLASS_ANNOTATION: Final = "kaito.sh/node-class-name"

CLAIM_FINALIZER: Final = "ray.kaito.sh/claim"
"""Keeps a NodeClaim that the operator made until the operator has seen how it ended."""
CLAIM_SERIAL_LABEL: Final = "ray.kaito.sh/claim-serial"
CLAIM_TRIES_LABEL: Final = "ray.kaito.sh/claim-tries"
"""How many NodeClaims failed before this one, one after the other."""

SERVE_PORT: Final = 8000
"""Port that HAProxy listens on in the pod."""
SERVICE_PORT: Final = 80
"""Port of the Workspace's Service."""
DASHBOARD_PORT: Final = 8265
GCS_PORT: Final = 6379
CLIENT_PORT: Final = 10001
METRICS_PORT: Final = 8080

RAY_SERVICE_NAME_LIMIT: Final = 47
"""KubeRay refuses longer RayService and RayJob names."""
NODE_POOL_NAME_LIMIT: Final = 63

APPLICATION: Final = "workspace"
"""Name of the Serve application."""
DEPLOYMENT: Final = "WorkspaceServer"
"""Name of its one deployment."""


def short_hash(*parts: str) -> str:
    """Return 8 hex digits that depend on every part and on their order."""
    return sha256("\x00".join(parts).encode()).hexdigest()[:8]


def fitted(name: str, limit: int) -> str:
    """Return `name`, or a prefix of it with a hash where it is longer than `limit` characters."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - 9].rstrip('-.')}-{short_hash(name)}"


def ray_service(workspace: str) -> str:
    """Return the name of the RayService: a DNS-1035 label of at most 47 characters."""
    name = workspace if workspace[:1].isalpha() else f"w-{workspace}"
    return fitted(name, RAY_SERVICE_NAME_LIMIT)


def ray_job(workspace: str) -> str:
    """Return the name of the RayJob; the same rules as for a RayService."""
    return ray_service(workspace)


def data_check(workspace: str) -> str:
    """Return the name of the RayJob that looks at the training data before there is a GPU."""
    return fitted(ray_job(workspace), RAY_SERVICE_NAME_LIMIT - len("-data")) + "-data"


def tuning_claim(workspace: str) -> str:
    """Return the name of the claim that a tuning run keeps its checkpoints on."""
    return fitted(workspace, 253 - len("-tuning")) + "-tuning"


def node_pool(namespace: str, workspace: str) -> str:
    """Return the name of the NodePool, which has no namespace of its own."""
    return fitted(f"{namespace}-{workspace}", NODE_POOL_NAME_LIMIT)


def node_claim(namespace: str, workspace: str, serial: int) -> str:
    """Return the name of a NodeClaim: KAITO's form, for gpu-provisioner takes no more than 12 lower-case characters."""
    return "ws" + sha256(f"{namespace}/{workspace}/{serial}".encode()).hexdigest()[:9]


def keys_secret(workspace: str) -> str:
    """Return the name of the operator-owned Secret with API keys; mounted from the first day."""
    return fitted(workspace, 253 - len("-keys")) + "-keys"


def registry_secret(workspace: str) -> str:
    """Return the name of the operator-owned Secret with registry credentials; mounted from the first day."""
    return fitted(workspace, 253 - len("-registry")) + "-registry"
