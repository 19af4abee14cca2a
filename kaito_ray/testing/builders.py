"""Manifests for tests: valid by default, and one line to make one different.

workspace()                                         the smallest serving Workspace
workspace(inference={"config": "mine"})             the same, with one field more
workspace(inference=None, tuning=TUNING)            a tuning one
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

Manifest = dict[str, Any]

SERVING: Final[Manifest] = {
    "apiVersion": "kaito.sh/v1beta1",
    "kind": "Workspace",
    "metadata": {"name": "smol", "namespace": "default"},
    "resource": {"labelSelector": {"matchLabels": {"apps": "smol"}}},
    "inference": {"preset": {"name": "smollm2-135m-instruct"}},
}
TUNING: Final[Manifest] = {
    "preset": {"name": "smollm2-135m-instruct"},
    "method": "qlora",
    "input": {"urls": ["https://example.com/data.parquet"]},
    "output": {"image": "registry.example.com/team/adapter:1", "imagePushSecret": "push"},
}


def workspace(**changes: Any) -> Manifest:
    """Return a Workspace; `changes` are merged into its top-level fields, and None removes one."""
    return merged(SERVING, changes)


def adapter(name: str = "style", **changes: Any) -> Manifest:
    """Return one entry of `inference.adapters`."""
    source = {"name": name, "image": f"registry.example.com/team/{name}:1"}
    return merged({"source": source}, changes)


def node(name: str = "node-a", *, cpu: str = "4", memory: str = "16Gi", gpus: int = 0, **changes: Any) -> Manifest:
    """Return a Ready Node; with GPUs it carries the labels of NVIDIA's feature discovery."""
    labels = {"kubernetes.io/hostname": name, "node.kubernetes.io/instance-type": "local"}
    capacity = {"cpu": cpu, "memory": memory, "pods": "110"}
    if gpus:
        capacity["nvidia.com/gpu"] = str(gpus)
        labels |= {"nvidia.com/gpu.product": "NVIDIA-A10", "nvidia.com/gpu.memory": "23028"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return merged(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": [ready]},
        },
        changes,
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Manifest:
    """Return `base` with `changes` merged in, dict by dict; None removes a key, anything else replaces."""
    out = deepcopy(dict(base))
    for key, value in changes.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = deepcopy(value)
    return out


def ready_ray_service_status(cluster: str = "smol-abcde", application: str = "RUNNING") -> Manifest:
    """Return the status of a RayService whose endpoint exists; `application` is the state of its one application."""
    return {
        "conditions": [{"type": "Ready", "status": "True", "reason": "NonZeroServeEndpoints"}],
        "activeServiceStatus": {
            "rayClusterName": cluster,
            "rayClusterStatus": {"head": {"podIP": "127.0.0.1"}, "endpoints": {"dashboard": "20001"}},
            "applicationStatuses": {"workspace": {"status": application, "message": ""}},
        },
        "pendingServiceStatus": {},
    }


def pending_ray_service_status(application: Manifest | None = None, head: Manifest | None = None) -> Manifest:
    """Return the status of a RayService whose first cluster is not promoted yet."""
    pending: Manifest = {"rayClusterName": "smol-abcde"}
    if application is not None:
        pending["applicationStatuses"] = {"workspace": application}
    if head is not None:
        pending["rayClusterStatus"] = {"conditions": [{"type": "HeadPodReady", "status": "False", **head}]}
    return {
        "conditions": [{"type": "Ready", "status": "False", "reason": "Initializing"}],
        "activeServiceStatus": {},
        "pendingServiceStatus": pending,
    }


def node_claim(pool: str, node_name: str = "node-a", *, ready: bool = True) -> Manifest:
    """Return the NodeClaim of the NodePool of a Workspace in `default`, met by a node or still being launched."""
    state = "True" if ready else "Unknown"
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": f"{pool}-claim",
            "labels": {
                "karpenter.sh/nodepool": pool,
                "kaito.sh/workspace": pool.removeprefix("default-"),
                "kaito.sh/workspacenamespace": "default",
            },
        },
        "status": {
            **({"nodeName": node_name} if ready else {}),
            "conditions": [
                {"type": type_, "status": state, "reason": type_, "message": ""}
                for type_ in ("Launched", "Registered", "Initialized", "Ready")
            ],
        },
    }
