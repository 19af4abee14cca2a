"""RayCluster -> Secret, head Service and head Pod, and its status. A pod that has failed for good is replaced."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from kaito_ray.kube.cluster import PODS, RAY_CLUSTERS, SECRETS, SERVICES, Manifest
from kaito_ray.local import kubelet, raycluster
from kaito_ray.local.home import Home
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.ports import NoFreePorts, choose
from kaito_ray.local.ray_clusters import RayClusters, name_of, ports_of
from kaito_ray.local.ray_head import RayHead

_ENDED = ("Failed", "Succeeded")


@dataclass(frozen=True)
class RayClusterController:
    """The controller."""

    home: Home
    objects: Objects
    clusters: RayClusters
    node: str
    machine_cpus: int

    async def reconcile(self, cluster: Manifest) -> None:
        """Carry one cluster one step on."""
        pods = self.objects.owned(PODS, cluster)
        for pod in pods:
            if not deleting(pod) and (deleting(cluster) or pod.get("status", {}).get("phase") in _ENDED):
                await self.objects.delete(PODS, pod)
        if deleting(cluster):
            return
        if self.clusters.token(cluster) is None:
            await self.objects.create(SECRETS, raycluster.token_secret(cluster, secrets.token_hex(32)))
        name = name_of(cluster)
        await self.objects.ensure(SERVICES, raycluster.head_service(cluster, f"{name}-head-svc", name))
        trouble = raycluster.beyond_one_machine(cluster)
        if not pods and not trouble:
            try:
                pods = [await self._create_head(cluster)]
            except NoFreePorts as error:
                trouble = str(error)
        status = raycluster.cluster_status(cluster, pods[0] if pods else None, trouble)
        await self.objects.replace_status(RAY_CLUSTERS, cluster, status)

    async def _create_head(self, cluster: Manifest) -> Manifest:
        meta = cluster["metadata"]
        heads = [p for p in self.objects.all(PODS) if kubelet.FIRST_PORT in p["metadata"].get("annotations", {})]
        ports = choose(str(self.home.root), {ports_of(p).base for p in heads})
        head = RayHead(meta["uid"], self.home.ray / f"{meta['namespace']}_{meta['name']}", ports)
        pod = raycluster.head_pod(
            cluster, head, suffix=self.clusters.suffix(), node=self.node, machine_cpus=self.machine_cpus
        )
        created = await self.objects.create(PODS, pod)
        await self.objects.event(cluster, "CreatedHeadPod", f"Created head Pod {meta['namespace']}/{name_of(created)}")
        return created
