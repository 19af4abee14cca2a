"""RayService: makes the clusters that `rayservice` decides on, gives them the Serve configuration, leads traffic."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final

from kaito_ray.kube.cluster import PODS, RAY_SERVICES, SERVICES, Manifest
from kaito_ray.kube.conditions import holds
from kaito_ray.local import raycluster, rayservice
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.ray_clusters import RayClusters, name_of, ports_of
from kaito_ray.local.ray_rest import RayRefused, RayUnavailable

_REFUSED_RETRY_S: Final = 30.0


@dataclass
class _Applied:
    """What was last PUT to a cluster, and how that went. Lost with the process: an equal PUT more changes nothing."""

    config: str = ""
    refused_at: float | None = None


@dataclass
class RayServiceController:
    """The controller."""

    objects: Objects
    clusters: RayClusters
    clock: Callable[[], float] = time.monotonic
    _applied: dict[str, _Applied] = field(default_factory=dict)
    _retired: dict[str, float] = field(default_factory=dict)

    async def reconcile(self, service: Manifest) -> None:
        """Carry one service one step on."""
        if deleting(service):
            await self.clusters.release(RAY_SERVICES, service, rayservice.FINALIZER)
            return
        service = await self.clusters.hold(RAY_SERVICES, service, rayservice.FINALIZER)
        owned = self.clusters.owned(service)
        if service["spec"].get("suspend"):
            await self.clusters.end(owned.values())
            await self.objects.replace_status(
                RAY_SERVICES, service, rayservice.suspended_status(service, done=not owned)
            )
            return
        choice = rayservice.choose(service, owned)
        if choice.make_pending:
            service = await self._name_pending(service, owned.get(choice.active or ""))
            choice = rayservice.choose(service, owned)
        if choice.pending and choice.pending not in owned:
            made = await self.clusters.make(service, choice.pending, service["spec"]["rayClusterConfig"])
            owned[choice.pending] = made
            await self.objects.event(service, "CreatedRayCluster", f"Created RayCluster {choice.pending}")
        await self._retire(service, owned, keep={choice.active, choice.pending})
        await self._advance(service, owned.get(choice.active or ""), owned.get(choice.pending or ""))

    async def _name_pending(self, service: Manifest, active: Manifest | None) -> Manifest:
        """Record the name of the next cluster before it is made, so that a restart in between makes no second one."""
        before = service.get("status", {})
        status = rayservice.service_status(
            service,
            active=active,
            pending=f"{name_of(service)}-{self.clusters.suffix()}",
            applications=before.get("activeServiceStatus", {}).get("applicationStatuses", {}),
            endpoints=before.get("numServeEndpoints", 0) if active else 0,
        )
        return await self.objects.replace_status(RAY_SERVICES, service, status)

    async def _advance(self, service: Manifest, active: Manifest | None, pending: Manifest | None) -> None:
        """Serve the configuration from the target cluster, lead traffic there once it runs, and write the status."""
        target = pending or active
        if target is None:
            return
        applications = await self._serve(service, target)
        if applications is None:  # Ray does not answer just now: what it said last stands
            which = "pendingServiceStatus" if pending else "activeServiceStatus"
            applications = service.get("status", {}).get(which, {}).get("applicationStatuses", {})
        elif rayservice.all_running(applications):
            await self._lead_to(service, target)
            active, pending = target, None
        await self._label_heads(active, pending)
        endpoints = self._endpoints(service)
        status = rayservice.service_status(
            service, active=active, pending=pending, applications=applications, endpoints=endpoints
        )
        await self.objects.replace_status(RAY_SERVICES, service, status)

    async def _serve(self, service: Manifest, cluster: Manifest) -> dict[str, Manifest] | None:
        """PUT the configuration if the cluster has not got it; return its applications, or None if it cannot say."""
        if (reached := self.clusters.reach(cluster)) is None:
            return None
        ray, ports = reached
        try:
            applications = rayservice.application_statuses(await ray.applications())
        except RayUnavailable:
            return None
        uid, config = cluster["metadata"]["uid"], service["spec"].get("serveConfigV2", "")
        if not self._due(self._applied.get(uid), config, applications):
            return applications
        try:
            await ray.apply(rayservice.serve_config(service, port=ports.serve))
        except (RayRefused, rayservice.BadServeConfig) as error:
            known = self._applied.get(uid)
            if known is None or known.config != config or known.refused_at is None:
                await self.objects.event(service, "FailedToUpdateServeApplications", str(error), kind="Warning")
            self._applied[uid] = _Applied(config, self.clock())
        else:
            self._applied[uid] = _Applied(config)
            message = f"Updated serve applications to the RayCluster {name_of(cluster)}"
            await self.objects.event(service, "UpdatedServeApplications", message)
        return applications

    def _due(self, applied: _Applied | None, config: str, applications: Mapping[str, Manifest]) -> bool:
        """Return whether to PUT: something new, or Ray forgot (it was restarted), or it is time to try again."""
        if applied is None or applied.config != config:
            return True
        if applied.refused_at is not None:
            return self.clock() - applied.refused_at >= _REFUSED_RETRY_S
        return not applications

    async def _lead_to(self, service: Manifest, cluster: Manifest) -> None:
        name = name_of(service)
        await self.objects.ensure(SERVICES, raycluster.head_service(service, f"{name}-head-svc", name_of(cluster)))
        await self.objects.ensure(SERVICES, raycluster.serve_service(service, f"{name}-serve-svc", name_of(cluster)))

    def _endpoints(self, service: Manifest) -> int:
        """Return how many ready pods the serve Service leads to; none while there is no such Service."""
        namespace = service["metadata"]["namespace"]
        serve = self.objects.get(SERVICES, f"{name_of(service)}-serve-svc", namespace)
        if serve is None:
            return 0
        wanted = serve["spec"]["selector"].items()
        pods = [p for p in self.objects.all(PODS) if p["metadata"]["namespace"] == namespace]
        return sum(holds(p, "Ready") and wanted <= p["metadata"].get("labels", {}).items() for p in pods)

    async def _label_heads(self, active: Manifest | None, pending: Manifest | None) -> None:
        """Say on each head pod whether it serves; that is what Services select.

        HAProxy on a head says that it is well before there is anything behind it, so a pending cluster does not count.
        """
        for cluster in (active, pending):
            pod = self.clusters.head_pod(cluster) if cluster else None
            if pod is None or deleting(pod):
                continue
            serving = cluster is active and holds(pod, "Ready") and await self.clusters.ray.serving(ports_of(pod).serve)
            labelled = deepcopy(pod)
            labelled["metadata"]["labels"]["ray.io/serve"] = "true" if serving else "false"
            await self.objects.replace(PODS, labelled)

    async def _retire(self, service: Manifest, owned: Mapping[str, Manifest], keep: set[str | None]) -> None:
        """End clusters that no longer serve, after the delay; the time is kept in memory, as KubeRay keeps it."""
        for name, cluster in owned.items():
            uid = cluster["metadata"]["uid"]
            if name in keep:
                self._retired.pop(uid, None)
            elif self.clock() - self._retired.setdefault(uid, self.clock()) >= rayservice.deletion_delay_s(service):
                self._applied.pop(uid, None)
                await self.clusters.end([cluster])
