"""What the controllers of RayService, RayJob and RayCluster share: finding, reaching, making and ending clusters."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kaito_ray.kube.cluster import PODS, RAY_CLUSTERS, SECRETS, Manifest, Resource
from kaito_ray.kube.conditions import holds
from kaito_ray.local import containers, kubelet, raycluster
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.ports import RayPorts
from kaito_ray.local.ray_rest import Ray

_ALPHABET: Final = string.ascii_lowercase + string.digits


class RayAccess(Protocol):
    """How to speak to a local Ray cluster."""

    def connect(self, port: int, token: str) -> Ray:
        """Return the REST API of the cluster whose dashboard listens on `port`."""

    async def serving(self, port: int) -> bool:
        """Return whether Serve's proxy on `port` says that it is well."""


def random_suffix() -> str:
    """Return five letters and digits, as Kubernetes appends to generated names."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(5))


@dataclass(frozen=True)
class RayClusters:
    """The RayClusters of this machine."""

    objects: Objects
    ray: RayAccess
    suffix: Callable[[], str] = random_suffix

    def owned(self, owner: Manifest) -> dict[str, Manifest]:
        """Return the clusters of a RayService or RayJob, by name."""
        return {name_of(c): c for c in self.objects.owned(RAY_CLUSTERS, owner)}

    def head_pod(self, cluster: Manifest) -> Manifest | None:
        """Return the head pod, or None while there is none."""
        return next(iter(self.objects.owned(PODS, cluster)), None)

    def token(self, cluster: Manifest) -> str | None:
        """Return Ray's token from the cluster's Secret, or None while there is none."""
        name = cluster["spec"].get("authOptions", {}).get("secretName") or name_of(cluster)
        secret = self.objects.get(SECRETS, name, cluster["metadata"]["namespace"])
        return containers.content(secret).get("auth_token", b"").decode() if secret else None

    def reach(self, cluster: Manifest) -> tuple[Ray, RayPorts] | None:
        """Return the REST API of a cluster and its ports, or None while its head is not ready."""
        pod, token = self.head_pod(cluster), self.token(cluster)
        if pod is None or token is None or not holds(pod, "Ready"):
            return None
        ports = ports_of(pod)
        return self.ray.connect(ports.dashboard, token), ports

    async def make(self, owner: Manifest, name: str, spec: dict[str, Any]) -> Manifest:
        """Make a cluster."""
        return await self.objects.create(RAY_CLUSTERS, raycluster.ray_cluster(owner, name, spec))

    async def end(self, clusters: Iterable[Manifest]) -> None:
        """Ask for the end of clusters.

        Foreground: a cluster stays until its pods are gone, and a pod stays until its processes are.
        """
        for cluster in clusters:
            if not deleting(cluster):
                await self.objects.delete(RAY_CLUSTERS, cluster, propagation="Foreground")

    async def hold(self, resource: Resource, item: Manifest, finalizer: str) -> Manifest:
        """Keep an object from going away before its clusters."""
        if finalizer in item["metadata"].get("finalizers", []):
            return item
        held = deepcopy(item)
        held["metadata"].setdefault("finalizers", []).append(finalizer)
        return await self.objects.replace(resource, held)

    async def release(self, resource: Resource, item: Manifest, finalizer: str) -> None:
        """End the object's clusters, and let it go once they are gone, and with them the last process."""
        clusters = self.owned(item)
        await self.end(clusters.values())
        if not clusters and finalizer in item["metadata"].get("finalizers", []):
            released = deepcopy(item)
            released["metadata"]["finalizers"].remove(finalizer)
            await self.objects.replace(resource, released)


def ports_of(pod: Manifest) -> RayPorts:
    """Return the ports that a head pod was given."""
    return RayPorts(int(pod["metadata"]["annotations"][kubelet.FIRST_PORT]))


def name_of(item: Manifest) -> str:
    """Return the object's name."""
    return str(item["metadata"]["name"])
