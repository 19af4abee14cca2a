"""The real operator against a real embedded API server, and a client that plays everybody else: no Ray, no kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from kaito_ray.api.crd import crd
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import (
    CRDS,
    NODE_CLAIMS,
    NODES,
    RAY_SERVICES,
    VALIDATING_WEBHOOKS,
    WORKSPACES,
    Manifest,
    Resource,
)
from kaito_ray.local import crds
from tests.apiserver import ApiServer, running

THEN = "2026-01-01T00:00:00Z"
INSTANCE_TYPE = "Standard_NC24ads_A100_v4"


@dataclass
class Scene:
    """A server, an operator process and a client."""

    server: ApiServer
    cluster: KubernetesCluster
    flags: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.server.home / "operator.log"

    async def start(self) -> None:
        """Start the operator, and wait until its webhook is published."""
        command = [sys.executable, "-m", "kaito_ray.controller", "--kubeconfig", str(self.server.kubeconfig)]
        command += ["--identity", "one"]  # the next one is its successor
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self.flags], stdout=log, stderr=log)
        await self.until(self._published)

    async def stop(self) -> int:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 30)

    async def install(self, *, vendored: bool = True) -> None:
        """Create our CRD, and those of KubeRay and Karpenter."""
        await self.cluster.create(CRDS, crd())
        if vendored:
            await self.install_others()

    async def install_others(self) -> None:
        """Create the CRDs of KubeRay and Karpenter."""
        for path in sorted(Path(crds.__file__).parent.glob("*.json")):
            await self.cluster.create(CRDS, json.loads(path.read_text()))

    async def until(self, holds: Callable[[], Awaitable[Any]], within_s: float = 90) -> Any:
        """Wait for a true answer, and return it."""
        deadline = monotonic() + within_s
        while not (found := await holds()):
            assert monotonic() < deadline, self.log.read_text()[-3000:]
            await asyncio.sleep(0.1)
        return found

    async def exists(self, resource: Resource, name: str) -> Manifest:
        namespace = "default" if resource.namespaced else None
        found: Manifest = await self.until(lambda: self.cluster.get(resource, name, namespace))
        return found

    async def gone(self, resource: Resource, name: str) -> None:
        namespace = "default" if resource.namespaced else None

        async def away() -> bool:
            return await self.cluster.get(resource, name, namespace) is None

        await self.until(away)

    async def tell(self, resource: Resource, name: str, status: Manifest) -> None:
        """Write the status of an object."""
        live = await self.exists(resource, name)
        await self.cluster.replace_status(resource, {**live, "status": status})

    async def make(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create an object with its status."""
        made = await self.cluster.create(resource, manifest)
        if "status" in manifest:
            made = await self.cluster.replace_status(resource, {**made, "status": manifest["status"]})
        return made

    async def workspace(self, name: str) -> Manifest:
        return await self.exists(WORKSPACES, name)

    async def condition(self, name: str, type_: str) -> dict[str, Any]:
        conditions = ((await self.workspace(name)).get("status") or {}).get("conditions") or ()
        return next((dict(found) for found in conditions if found["type"] == type_), {})

    async def machine(self, name: str) -> None:
        """Play Karpenter and the kubelet: one machine for a Workspace."""
        await self.make(NODES, gpu_node(f"node-{name}", name))
        pool = (await self.exists(_NODE_POOLS, f"default-{name}"))["spec"]["template"]
        await self.make(NODE_CLAIMS, claim(name, pool["spec"], node=f"node-{name}"))

    async def served(self, name: str) -> None:
        """Play KubeRay: the model answers."""
        await self.tell(RAY_SERVICES, name, serving(f"{name}-aaaaa"))

    async def _published(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log.read_text()[-3000:]
        return bool(await self.cluster.list(VALIDATING_WEBHOOKS))


_NODE_POOLS = Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)


@asynccontextmanager
async def operator(home: Path, *flags: str, start: bool = True, vendored: bool = True) -> AsyncIterator[Scene]:
    """Run both for the length of a `with` block."""
    with running(home) as server:
        cluster = KubernetesCluster(server.kubeconfig)
        scene = Scene(server, cluster, flags)
        try:
            await scene.install(vendored=vendored)
            if start:
                await scene.start()
            yield scene
        finally:
            if scene.process is not None and scene.process.poll() is None:
                await scene.stop()
            await cluster.close()


def gpu_node(name: str, workspace: str, gpus: int = 1) -> Manifest:
    capacity = {"cpu": "24", "memory": "220Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    labels = {"kubernetes.io/hostname": name, "node.kubernetes.io/instance-type": INSTANCE_TYPE, "apps": workspace}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [condition("Ready", "True", "Kubelet")],
        },
    }


def claim(workspace: str, spec: Manifest, *, node: str | None = None, launched: Manifest | None = None) -> Manifest:
    stages = ("Launched", "Registered", "Initialized", "Ready")
    conditions = [condition(stage, "True" if node else "Unknown", stage) for stage in stages]
    if launched:
        conditions[0] |= launched
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": f"default-{workspace}-x7k2p",
            "labels": {
                "karpenter.sh/nodepool": f"default-{workspace}",
                "kaito.sh/workspace": workspace,
                "kaito.sh/workspacenamespace": "default",
            },
        },
        "spec": spec,
        "status": {"conditions": conditions, **({"nodeName": node} if node else {})},
    }


def condition(type_: str, status: str, reason: str, message: str = "") -> Manifest:
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": THEN}


def serving(cluster: str) -> Manifest:
    return {
        "conditions": [condition("Ready", "True", "NonZeroServeEndpoints")],
        "activeServiceStatus": {
            "rayClusterName": cluster,
            "applicationStatuses": {"workspace": {"status": "RUNNING", "message": ""}},
        },
    }


def starting(cluster: str, **more: Any) -> Manifest:
    return {
        "conditions": [condition("Ready", "False", "Initializing")],
        "pendingServiceStatus": {"rayClusterName": cluster, **more},
    }


def failed_app(message: str) -> Manifest:
    deployments = {"WorkspaceServer": {"status": "DEPLOY_FAILED", "message": message}}
    return {
        "applicationStatuses": {
            "workspace": {"status": "DEPLOY_FAILED", "message": "", "serveDeploymentStatuses": deployments}
        }
    }


def ray_pod(workspace: str, status: Manifest, *, node: str | None = None) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{workspace}-aaaaa-head-bcdef",
            "namespace": "default",
            "labels": {
                "kaito.sh/workspace": workspace,
                "kaito.sh/workspacenamespace": "default",
                "ray.io/cluster": f"{workspace}-aaaaa",
                "ray.io/node-type": "head",
            },
        },
        "spec": {
            "containers": [{"name": "ray", "image": "ghcr.io/kaito-ray/worker:0.1.0"}],
            **({"nodeName": node} if node else {}),
        },
        "status": status,
    }
