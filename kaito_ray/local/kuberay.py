"""KubeRay on one machine: RayService and RayJob -> RayCluster -> head Pod, and back as status.

Level-triggered: each pass looks at what is there and does what is missing, so that a restart at any point, or news that
comes twice, changes nothing. The decisions are in `rayservice`, `rayjob` and `raycluster`, the acts in the controllers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import RAY_CLUSTERS, RAY_JOBS, RAY_SERVICES, Manifest, Resource
from kaito_ray.local import raycluster, rayservice
from kaito_ray.local.home import Home
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.patience import Patience, described
from kaito_ray.local.ray_clusters import RayAccess, RayClusters
from kaito_ray.local.raycluster_controller import RayClusterController
from kaito_ray.local.rayjob_controller import RayJobController
from kaito_ray.local.rayservice_controller import RayServiceController

log = logging.getLogger(__name__)

Step = Callable[[Manifest], Awaitable[None]]


class KubeRay:
    """The three controllers."""

    def __init__(self, home: Home, objects: Objects, ray: RayAccess, node: str, *, machine_cpus: int) -> None:
        clusters = RayClusters(objects, ray)
        self._objects = objects
        self._clusters = clusters
        self._patience = Patience()
        self._steps: tuple[tuple[Resource, Step], ...] = (
            (RAY_SERVICES, RayServiceController(objects, clusters).reconcile),
            (RAY_JOBS, RayJobController(objects, clusters).reconcile),
            (RAY_CLUSTERS, RayClusterController(home, objects, clusters, node, machine_cpus).reconcile),
        )

    async def reconcile(self) -> None:
        """Carry every RayService, RayJob and RayCluster one step on."""
        for resource, step in self._steps:
            for item in self._objects.all(resource):
                if self._patience.due(item):
                    await self._carefully(resource, step, item)

    async def _carefully(self, resource: Resource, step: Step, item: Manifest) -> None:
        """One object's trouble must not keep the others waiting; it is told, and tried again with back-off."""
        what = f"{item['kind']} {item['metadata']['name']}"
        try:
            await step(item)
            self._patience.well(item)
        except TransientError as error:
            log.info("%s will be tried again: %s", what, error)
        except Exception as error:
            log.exception("%s: reconciling failed", what)
            try:
                await self._tell(resource, item, error)
            except TransientError as unheard:
                log.info("%s: that could not be told: %s", what, unheard)

    async def _tell(self, resource: Resource, item: Manifest, error: Exception) -> None:
        """Say on the object what nobody foresaw."""
        words = described(error)
        if self._patience.failed(item, error):
            await self._objects.event(item, "ReconcileFailed", words, kind="Warning")
        item = self._objects.get(resource, item["metadata"]["name"], item["metadata"]["namespace"]) or item
        if not deleting(item):
            await self._objects.replace_status(resource, item, self._troubled(resource, item, words))

    def _troubled(self, resource: Resource, item: Manifest, words: str) -> Manifest:
        if resource == RAY_CLUSTERS:
            return raycluster.cluster_status(item, self._clusters.head_pod(item), words)
        if resource == RAY_JOBS:
            return {**item.get("status", {}), "message": words}
        return rayservice.troubled_status(item, words)
