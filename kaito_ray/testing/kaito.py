"""What KAITO v0.12 leaves in a cluster for one Workspace, in the shapes in which it writes it."""

from __future__ import annotations

from typing import Any, Final, Literal

from kaito_ray.kube.cluster import (
    DEPLOYMENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    WORKSPACES,
    Cluster,
    Manifest,
    Resource,
)
from kaito_ray.testing.builders import merged

MACHINE: Final = "Standard_NC24ads_A100_v4"
THEN: Final = "2026-01-01T00:00:00Z"

Provisioner = Literal["gpu-provisioner", "karpenter"]


def kaito_workspace(**changes: Any) -> Manifest:
    """Return a Workspace as KAITO leaves it: its finalizer, its marks."""
    left = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {
            "name": "phi",
            "namespace": "default",
            "finalizers": ["workspace.finalizer.kaito.sh"],
            "annotations": {"workspace.kaito.io/hash": "5f0c4", "workspace.kaito.io/revision": "1"},
        },
        "resource": {"instanceType": MACHINE, "labelSelector": {"matchLabels": {"apps": "phi"}}},
        "inference": {"preset": {"name": "phi-4"}},
    }
    return merged(left, changes)


async def served_by_kaito(
    cluster: Cluster, workspace: Manifest, provisioner: Provisioner = "gpu-provisioner"
) -> Manifest:
    """Create the Workspace and all that KAITO makes of it; return the Workspace."""
    made = await cluster.create(WORKSPACES, workspace)
    for resource, manifest in _children(made, provisioner):
        stored = await cluster.create(resource, manifest)
        if "status" in manifest:
            await cluster.replace_status(resource, {**stored, "status": manifest["status"]})
    if provisioner == "karpenter":
        await _owned_by_its_pool(cluster, made)
    return made


def _children(workspace: Manifest, provisioner: Provisioner) -> list[tuple[Resource, Manifest]]:
    name = workspace["metadata"]["name"]
    labels = {"kaito.sh/workspace": name}
    selector = {"matchLabels": labels}
    pod = {"metadata": {"labels": labels}, "spec": _pod(workspace, name)}
    template = workspace["inference"].get("template")
    first = {} if template else {"statefulset.kubernetes.io/pod-name": f"{name}-0"}
    ports = [
        {"name": "http", "port": 80, "targetPort": 5000, "protocol": "TCP"},
        {"name": "ray", "port": 6379, "targetPort": 6379, "protocol": "TCP"},
        {"name": "dashboard", "port": 8265, "targetPort": 8265, "protocol": "TCP"},
    ]
    service = {"type": "ClusterIP", "selector": {**labels, **first}, "ports": ports, "publishNotReadyAddresses": True}
    headless = {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True}
    revision: Manifest = {
        "metadata": _meta(workspace, f"{name}-5f0c4", {"workspace.kaito.io/name": name}),
        "data": {"inference": workspace["inference"]},
        "revision": 1,
    }
    found: list[tuple[Resource, Manifest]] = [
        (REVISIONS, revision),
        (SERVICES, {"metadata": _meta(workspace, name), "spec": service}),
    ]
    running = {"replicas": 1, "selector": selector, "template": pod}
    if template:
        found.append((DEPLOYMENTS, {"metadata": _meta(workspace, name), "spec": running}))
    else:
        found.append((SERVICES, {"metadata": _meta(workspace, f"{name}-headless"), "spec": headless}))
        spec = {**running, "serviceName": f"{name}-headless", "podManagementPolicy": "Parallel"}
        found.append((STATEFUL_SETS, {"metadata": _meta(workspace, name), "spec": spec}))
    return [*found, *_machines(workspace, provisioner)]


def _pod(workspace: Manifest, name: str) -> Manifest:
    if template := workspace["inference"].get("template"):
        return dict(template["spec"])
    gpu = {"nvidia.com/gpu": "1"}
    container = {
        "name": name,
        "image": "mcr.microsoft.com/aks/kaito/kaito-base:0.5.0",
        "command": ["/bin/sh", "-c", "python3 /workspace/vllm/inference_api.py --served-model-name=phi-4"],
        "ports": [{"containerPort": 5000}],
        "resources": {"requests": gpu, "limits": gpu},
    }
    return {"containers": [container]}


def _machines(workspace: Manifest, provisioner: Provisioner) -> list[tuple[Resource, Manifest]]:
    meta = workspace["metadata"]
    name, namespace = meta["name"], meta["namespace"]
    selected = workspace["resource"]["labelSelector"]["matchLabels"]
    by_karpenter = {
        "karpenter.kaito.sh/managed-by": "kaito",
        "karpenter.kaito.sh/workspace-name": name,
        "karpenter.kaito.sh/workspace-namespace": namespace,
    }
    pool_name = f"{namespace}-{name}"
    if provisioner == "gpu-provisioner":
        node_class = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
        labels = {"kaito.sh/workspace": name, "kaito.sh/workspacenamespace": namespace, **selected}
        claim = {"name": "ws1a2b3c4d5", "labels": {"karpenter.sh/nodepool": "kaito", **labels}}
    else:
        node_class = {"group": "karpenter.azure.com", "kind": "AKSNodeClass", "name": "image-family-ubuntu"}
        labels = {**by_karpenter, **selected}
        claim = {"name": f"{pool_name}-x7k2p", "labels": {"karpenter.sh/nodepool": pool_name, **labels}}
    requirements = [{"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [MACHINE]}]
    taints = [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
    spec = {"nodeClassRef": node_class, "requirements": requirements, "taints": taints}
    stages = [_condition(stage) for stage in ("Launched", "Registered", "Initialized", "Ready")]
    capacity = {"cpu": "24", "memory": "220Gi", "pods": "110", "nvidia.com/gpu": "1"}
    node = {
        "metadata": {"name": "node-phi", "labels": {"node.kubernetes.io/instance-type": MACHINE, **labels}},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [_condition("Ready")]},
    }
    found: list[tuple[Resource, Manifest]] = [
        (NODES, node),
        (NODE_CLAIMS, {"metadata": claim, "spec": spec, "status": {"nodeName": "node-phi", "conditions": stages}}),
    ]
    if provisioner == "karpenter":
        pool_spec = {
            "replicas": 1,
            "template": {"metadata": {"labels": labels}, "spec": spec},
            "disruption": {"consolidateAfter": "0s", "budgets": [{"nodes": "1", "reasons": ["Drifted"]}]},
        }
        found.insert(0, (NODE_POOLS, {"metadata": {"name": pool_name, "labels": by_karpenter}, "spec": pool_spec}))
    return found


async def _owned_by_its_pool(cluster: Cluster, workspace: Manifest) -> None:
    name = f"{workspace['metadata']['namespace']}-{workspace['metadata']['name']}"
    pool = await cluster.get(NODE_POOLS, name)
    claim = await cluster.get(NODE_CLAIMS, f"{name}-x7k2p")
    if pool is None or claim is None:
        raise ValueError("they were created above")
    owner = {
        "apiVersion": NODE_POOLS.api_version,
        "kind": NODE_POOLS.kind,
        "name": name,
        "uid": pool["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    await cluster.replace(NODE_CLAIMS, {**claim, "metadata": {**claim["metadata"], "ownerReferences": [owner]}})


def _meta(workspace: Manifest, name: str, labels: Manifest | None = None) -> Manifest:
    owner = {
        "apiVersion": workspace["apiVersion"],
        "kind": workspace["kind"],
        "name": workspace["metadata"]["name"],
        "uid": workspace["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": workspace["metadata"]["namespace"],
        "labels": labels or {},
        "ownerReferences": [owner],
    }


def _condition(type_: str) -> Manifest:
    return {"type": type_, "status": "True", "reason": type_, "message": "", "lastTransitionTime": THEN}
