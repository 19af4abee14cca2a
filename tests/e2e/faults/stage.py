"""A real API server, and in this process the machine agent's own code over Ray clusters that exist only in memory.

So a Workspace goes the whole way, from manifest to a published address and back to nothing, within a second, and a test
may kill whoever it likes at any point.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from kaito_ray.api.crd import crd
from kaito_ray.api.names import MANAGED_BY
from kaito_ray.errors import ApiUnavailable, Conflict, TransientError, WebhookUnavailable
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import (
    DISRUPTION_BUDGETS,
    EVENTS,
    NETWORK_POLICIES,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    RAY_CLUSTERS,
    RAY_JOBS,
    RAY_SERVICES,
    SECRETS,
    SERVICES,
    VALIDATING_WEBHOOKS,
    WORKSPACES,
    Cluster,
    Manifest,
    Resource,
)
from kaito_ray.local import crds, services
from kaito_ray.local.home import Home
from kaito_ray.local.install import install as install_crds
from kaito_ray.local.karpenter import Karpenter, node_name
from kaito_ray.local.kubelet import Heads, Kubelet
from kaito_ray.local.kuberay import KubeRay
from kaito_ray.local.machine import FOLLOWED
from kaito_ray.local.objects import Objects
from tests.apiserver import ApiServer
from tests.unit.local.fake_ray import FakeAccess, FakeHeads

CHILDREN = (
    *(NODE_POOLS, NODE_CLAIMS, SECRETS, SERVICES, NETWORK_POLICIES, DISRUPTION_BUDGETS),
    *(RAY_SERVICES, RAY_CLUSTERS, RAY_JOBS, PODS),
)
"""Every kind of which an object may be left behind."""


class Killed(BaseException):
    """The process is gone: nothing that catches errors sees this one."""


class Mortal(KubernetesCluster):
    """The real client of a process that dies as soon as its n-th write has taken effect, before it hears of it.

    That is every point between two writes: to die before a write is to die after the one before it.
    """

    def __init__(self, kubeconfig: Path, *, lives_for: int | None = None) -> None:
        super().__init__(kubeconfig)
        self.writes: list[tuple[str, str, str]] = []
        self.lives_for = lives_for

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal("create", resource, manifest, await super().create(resource, manifest))

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal("replace", resource, manifest, await super().replace(resource, manifest))

    async def replace_status(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal("status", resource, manifest, await super().replace_status(resource, manifest))

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        await super().delete(resource, name, namespace, uid=uid, propagation=propagation)
        self._mortal("delete", resource, {"metadata": {"name": name}}, {})

    def _mortal(self, verb: str, resource: Resource, manifest: Manifest, answer: Manifest) -> Manifest:
        self.writes.append((verb, resource.kind, manifest["metadata"]["name"]))
        if self.lives_for is not None and len(self.writes) >= self.lives_for:
            raise Killed
        return answer


@dataclass
class FakeMachine:
    """KubeRay, kubelet, kube-proxy and Karpenter of one machine; Ray answers at once that all is well, or done."""

    home: Home
    cluster: Cluster
    heads: Heads
    ray: FakeAccess = field(default_factory=FakeAccess)
    settles: bool = True
    """Whether applications get from DEPLOYING to RUNNING."""

    async def run(self) -> None:
        """Bring the machine in line with the objects, over and over, until cancelled."""
        objects = Objects(self.cluster, FOLLOWED)
        kuberay = KubeRay(self.home, objects, self.ray, node_name(), machine_cpus=2)
        kubelet = Kubelet(self.home, objects, node_name(), self._ready, self.heads)
        karpenter = Karpenter(objects, node_name(), self.home.root)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(objects.follow())
            while True:
                await asyncio.sleep(0.02)
                if not objects.synced:
                    continue
                for step in (karpenter.reconcile, kuberay.reconcile, kubelet.reconcile):
                    with suppress(TransientError):
                        await step()
                with suppress(TransientError):
                    await services.publish(objects)
                for ray in self.ray.clusters.values():
                    ray.settle("RUNNING" if self.settles else "DEPLOYING")
                    for job in ray.jobs.values():
                        job["status"] = "SUCCEEDED"

    async def _ready(self, _: Any) -> bool:
        return True


@dataclass
class Person:
    """Somebody with a kubeconfig."""

    client: KubernetesCluster

    async def until(self, holds: Callable[[], Awaitable[Any]], within_s: float = 60) -> Any:
        deadline = time.monotonic() + within_s
        while True:
            with suppress(ApiUnavailable):
                if found := await holds():
                    return found
            assert time.monotonic() < deadline, "it did not come about in time"
            await asyncio.sleep(0.02)

    async def apply(self, manifest: Manifest) -> Manifest:
        """Create the object, or write over it, as `kubectl apply` would."""
        meta = manifest["metadata"]
        while True:
            try:
                old = await self.client.get(WORKSPACES, meta["name"], meta["namespace"])
                if old is None:
                    return await self.client.create(WORKSPACES, manifest)
                kept = {k: old["metadata"][k] for k in ("resourceVersion", "uid", "finalizers") if k in old["metadata"]}
                return await self.client.replace(WORKSPACES, {**old, **manifest, "metadata": {**meta, **kept}})
            except (Conflict, ApiUnavailable, WebhookUnavailable):
                await asyncio.sleep(0.01)

    async def workspace(self, name: str = "smol") -> Manifest | None:
        return await self.client.get(WORKSPACES, name, "default")

    async def ready(self, name: str = "smol") -> bool:
        """Say whether the Workspace is ready as it stands, and what it stands on says the same."""
        found = await self.workspace(name)
        if found is None:
            return False
        status = found.get("status") or {}
        ready = any(c["type"] == "WorkspaceReady" and c["status"] == "True" for c in status.get("conditions", ()))
        return ready and status["observedGeneration"] == found["metadata"]["generation"]

    async def is_gone(self, name: str = "smol") -> bool:
        return await self.workspace(name) is None

    async def ended(self, process: subprocess.Popen[bytes]) -> bool:
        return process.poll() is not None

    async def published_by(self, pid: int) -> bool:
        """Say whether admission is asked at that process."""
        found = await self.client.get(VALIDATING_WEBHOOKS, MANAGED_BY)
        ports = {c.laddr.port for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
        return found is not None and urlsplit(found["webhooks"][0]["clientConfig"]["url"]).port in ports

    async def reasons(self, name: str) -> set[str]:
        """Return the reasons of all Events about Workspaces of that name."""
        return {e["reason"] for e in await self.client.list(EVENTS) if e["involvedObject"]["name"] == name}

    async def objects(self) -> dict[str, list[str]]:
        """Return what belongs to Workspaces, by kind; a random suffix reads `*`."""
        found = {}
        for resource in CHILDREN:
            found[resource.kind] = [item["metadata"]["name"] for item in await self.client.list(resource)]
        return {kind: names for kind, names in found.items() if names}

    async def count(self) -> dict[str, int]:
        """Return how many objects of each kind belong to Workspaces."""
        return {kind: len(names) for kind, names in (await self.objects()).items()}

    async def nothing_is_left(self) -> bool:
        """Say whether no object of any Workspace is left."""
        return not await self.objects() and not await self.client.list(WORKSPACES)


@dataclass
class Stage(Person):
    """The API server, a person's client, and the machine."""

    server: ApiServer
    machine: FakeMachine
    heads: FakeHeads

    @classmethod
    @asynccontextmanager
    async def on(cls, server: ApiServer, home: Path, *, agent: Path | None = None) -> AsyncIterator[Stage]:
        """Play on that API server, the machine reaching it with `agent`; afterwards nothing may be left."""
        client, machines = KubernetesCluster(server.kubeconfig), KubernetesCluster(agent or server.kubeconfig)
        heads = FakeHeads()
        stage = cls(client, server, FakeMachine(Home.at(home), machines, heads), heads)
        running = asyncio.create_task(stage.machine.run())
        try:
            await stage.until(lambda: client.list(NODES))
            yield stage
            await stage.until_nothing_is_left()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await client.close()
            await machines.close()

    async def alive(self, count: int) -> bool:
        """Say whether so many Ray heads run."""
        return len(self.heads.alive) == count

    async def until_nothing_is_left(self) -> None:
        """Wait until no object, process or file of any Workspace is left."""
        try:
            await self.until(self.nothing_is_left, within_s=30)
        except AssertionError:
            raise AssertionError(f"left behind: {await self.objects()}") from None

        async def tidy() -> bool:
            home = self.machine.home
            return not self.heads.alive and not list(home.ray.iterdir()) and not list(home.pods.iterdir())

        await self.until(tidy, within_s=30)


async def install(server: ApiServer) -> None:
    """Put the CRDs in place, as `kaito-ray up` does."""
    client = KubernetesCluster(server.kubeconfig)
    await install_crds(client, [crd(), *crds.manifests()])
    await client.close()
