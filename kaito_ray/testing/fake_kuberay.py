"""KubeRay and Karpenter as an API server sees them: they answer children at once, and start nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kaito_ray.errors import Conflict
from kaito_ray.kube.cluster import NODE_CLAIMS, NODE_POOLS, NODES, RAY_SERVICES, Cluster, Manifest, Resource

THEN = "2026-01-01T00:00:00Z"
STAGES = ("Launched", "Registered", "Initialized", "Ready")


async def answer(cluster: Cluster) -> None:
    """Give every NodePool its machine and make every RayService serve, for ever; one status write after the other."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_machines(cluster))
        group.create_task(_services(cluster))


async def _machines(cluster: Cluster) -> None:
    async for change in cluster.watch(NODE_POOLS):
        if change.type == "ADDED":
            name = change.object["metadata"]["name"]
            template = change.object["spec"]["template"]
            await _made(cluster, NODES, _node(f"node-{name}", template))
            await _made(cluster, NODE_CLAIMS, _claim(name, template))


async def _services(cluster: Cluster) -> None:
    async for change in cluster.watch(RAY_SERVICES):
        if change.type == "ADDED" and not (change.object.get("status") or {}).get("conditions"):
            live = change.object
            for status in _story(f"{live['metadata']['name']}-aaaaa"):
                live = await cluster.replace_status(RAY_SERVICES, {**live, "status": status})


def _story(cluster: str) -> Sequence[Manifest]:
    """Return the statuses of a RayService from its head pod to an answer, as KubeRay writes them."""
    head = {"conditions": [_condition("HeadPodReady", "True", "HeadPodRunningAndReady")]}
    pending: Manifest = {"rayClusterName": cluster}
    unready = [_condition("Ready", "False", "Initializing")]
    loading = {"workspace": {"status": "DEPLOYING", "message": ""}}
    running = {"workspace": {"status": "RUNNING", "message": ""}}
    return (
        {"conditions": unready, "pendingServiceStatus": pending},
        {"conditions": unready, "pendingServiceStatus": {**pending, "rayClusterStatus": head}},
        {
            "conditions": unready,
            "pendingServiceStatus": {**pending, "rayClusterStatus": head, "applicationStatuses": loading},
        },
        {
            "conditions": [_condition("Ready", "True", "NonZeroServeEndpoints")],
            "activeServiceStatus": {**pending, "rayClusterStatus": head, "applicationStatuses": running},
        },
    )


async def _made(cluster: Cluster, resource: Resource, manifest: Manifest) -> None:
    try:
        made = await cluster.create(resource, manifest)
        await cluster.replace_status(resource, {**made, "status": manifest["status"]})
    except Conflict:  # there already, from before a restart
        return


def _node(name: str, template: Manifest) -> Manifest:
    capacity = {"cpu": "24", "memory": "220Gi", "pods": "110", "nvidia.com/gpu": "1"}
    return {
        "apiVersion": NODES.api_version,
        "kind": NODES.kind,
        "metadata": {"name": name, "labels": template["metadata"]["labels"]},
        "status": {"capacity": capacity, "allocatable": capacity, "conditions": [_condition("Ready", "True", "Up")]},
    }


def _claim(pool: str, template: Manifest) -> Manifest:
    labels = {**template["metadata"]["labels"], "karpenter.sh/nodepool": pool}
    return {
        "apiVersion": NODE_CLAIMS.api_version,
        "kind": NODE_CLAIMS.kind,
        "metadata": {"name": f"{pool}-x7k2p", "labels": labels},
        "spec": template["spec"],
        "status": {"nodeName": f"node-{pool}", "conditions": [_condition(stage, "True", stage) for stage in STAGES]},
    }


def _condition(type_: str, status: str, reason: str) -> Manifest:
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": THEN}
