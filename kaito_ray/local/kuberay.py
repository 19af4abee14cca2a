"""KubeRay on one machine: RayService and RayJob -> RayCluster -> head Pod, and back as status.

Level-triggered: each pass looks at what is there and does what is missing, so that a restart at any point, or news that
comes twice, changes nothing. The decisions are in `rayservice`, `rayjob` and `raycluster`, the acts in the controllers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import RAY_CLUSTERS, RAY_JOBS, RAY_SERVICES, Manifest, Resource
from kaito_ray.local.home import Home
from kaito_ray.local.objects import Objects
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
        self._steps: tuple[tuple[Resource, Step], ...] = (
            (RAY_SERVICES, RayServiceController(objects, clusters).reconcile),
            (RAY_JOBS, RayJobController(objects, clusters).reconcile),
            (RAY_CLUSTERS, RayClusterController(home, objects, clusters, node, machine_cpus).reconcile),
        )

    async def reconcile(self) -> None:
        """Carry every RayService, RayJob and RayCluster one step on."""
        for resource, step in self._steps:
            for item in self._objects.all(resource):
                await _carefully(step, item)


async def _carefully(step: Step, item: Manifest) -> None:
    """One object's trouble must not keep the others waiting; the next pass tries again."""
    what = f"{item['kind']} {item['metadata']['name']}"
    try:
        await step(item)
    except TransientError as error:
        log.info("%s will be tried again: %s", what, error)
    except Exception:
        log.exception("%s: reconciling failed", what)
