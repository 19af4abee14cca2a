"""KubeRay on one machine: RayService and RayJob -> RayCluster -> head Pod, and back as status.

Level-triggered: each pass looks at what is there and does what is missing, so that a restart at any point, or news that
comes twice, changes nothing. The decisions are in `rayservice`, `rayjob` and `raycluster`; this is the part that acts.
"""

from __future__ import annotations

import json
import logging
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol

from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import PODS, RAY_CLUSTERS, RAY_JOBS, RAY_SERVICES, SECRETS, SERVICES, Manifest, Resource
from kaito_ray.local import containers, kubelet, raycluster, rayjob, rayservice
from kaito_ray.local.home import Home
from kaito_ray.local.objects import Objects, deleting, holds
from kaito_ray.local.ports import LOOPBACK, NoFreePorts, RayPorts, choose
from kaito_ray.local.ray_head import RayHead
from kaito_ray.local.ray_rest import Ray, RayRefused

log = logging.getLogger(__name__)

_ALPHABET = string.ascii_lowercase + string.digits
_REFUSED_RETRY_S = 30.0


class RayClusters(Protocol):
    """How to speak to a local Ray cluster."""

    def connect(self, port: int, token: str) -> Ray:
        """Return the REST API of the cluster whose dashboard listens on `port`."""

    async def serving(self, port: int) -> bool:
        """Return whether Serve's proxy on `port` says that it is well."""


@dataclass
class _Applied:
    """What was last PUT to a cluster, and how that went. Lost with the process: one more equal PUT changes nothing."""

    config: str = ""
    refused_at: float | None = None


@dataclass
class KubeRay:
    """The controller."""

    home: Home
    objects: Objects
    ray: RayClusters
    node: str
    machine_cpus: int
    clock: Callable[[], float] = time.monotonic
    suffix: Callable[[], str] = lambda: "".join(secrets.choice(_ALPHABET) for _ in range(5))
    _applied: dict[str, _Applied] = field(default_factory=dict)
    _retired: dict[str, float] = field(default_factory=dict)

    async def reconcile(self) -> None:
        """Carry every RayService, RayJob and RayCluster one step on."""
        steps: list[tuple[Resource, Callable[[Manifest], Awaitable[None]]]] = [
            (RAY_SERVICES, self._service),
            (RAY_JOBS, self._job),
            (RAY_CLUSTERS, self._cluster),
        ]
        for resource, step in steps:
            for item in self.objects.all(resource):
                await self._carefully(step, item)

    async def _carefully(self, step: Callable[[Manifest], Awaitable[None]], item: Manifest) -> None:
        """One object's trouble must not keep the others waiting; the next pass tries again."""
        what = {"kind": item["kind"], "object": item["metadata"]["name"]}
        try:
            await step(item)
        except TransientError as error:
            log.info("will be tried again: %s", error, extra=what)
        except Exception:
            log.exception("reconciling failed", extra=what)

    # RayService

    async def _service(self, service: Manifest) -> None:
        clusters = {c["metadata"]["name"]: c for c in self.objects.owned(RAY_CLUSTERS, service)}
        if deleting(service):
            await self._finish(RAY_SERVICES, service, clusters, rayservice.FINALIZER)
            return
        service = await self._with_finalizer(RAY_SERVICES, service, rayservice.FINALIZER)
        if service["spec"].get("suspend"):
            for cluster in clusters.values():
                await self._delete_cluster(cluster)
            await self.objects.replace_status(
                RAY_SERVICES, service, rayservice.suspended_status(service, done=not clusters)
            )
            return
        choice = rayservice.choose(service, clusters)
        if choice.make_pending:
            service = await self._name_pending(service, clusters.get(choice.active or ""))
            choice = rayservice.choose(service, clusters)
        if choice.pending and choice.pending not in clusters:
            made = raycluster.ray_cluster(service, choice.pending, service["spec"]["rayClusterConfig"])
            clusters[choice.pending] = await self.objects.create(RAY_CLUSTERS, made)
            await self.objects.event(service, "CreatedRayCluster", f"Created RayCluster {choice.pending}")
        await self._retire(service, clusters, keep={choice.active, choice.pending})
        await self._advance(service, clusters.get(choice.active or ""), clusters.get(choice.pending or ""))

    async def _name_pending(self, service: Manifest, active: Manifest | None) -> Manifest:
        """Record the name of the next cluster before it is made, so that a restart in between makes no second one."""
        name = f"{service['metadata']['name']}-{self.suffix()}"
        before = service.get("status", {})
        status = rayservice.service_status(
            service,
            active=active,
            pending=name,
            applications=before.get("activeServiceStatus", {}).get("applicationStatuses", {}),
            endpoints=before.get("numServeEndpoints", 0) if active else 0,
        )
        return await self.objects.replace_status(RAY_SERVICES, service, status)

    async def _advance(self, service: Manifest, active: Manifest | None, pending: Manifest | None) -> None:
        """Serve the configuration from the target cluster, lead traffic there once it runs, and write the status."""
        for cluster in (active, pending):
            if cluster:
                await self._label_head(cluster)
        target = pending or active
        assert target is not None
        applications = await self._serve(service, target)
        if applications is None:  # Ray does not answer just now: what it said last stands
            which = "pendingServiceStatus" if pending else "activeServiceStatus"
            applications = service.get("status", {}).get(which, {}).get("applicationStatuses", {})
        elif rayservice.all_running(applications):
            await self._lead_to(service, target)
            active, pending = target, None
        status = rayservice.service_status(
            service,
            active=active,
            pending=pending,
            applications=applications,
            endpoints=self._endpoints(service),
        )
        await self.objects.replace_status(RAY_SERVICES, service, status)

    async def _serve(self, service: Manifest, cluster: Manifest) -> dict[str, Manifest] | None:
        """PUT the configuration if the cluster has not got it; return its applications, or None if it cannot say."""
        pod, token = self._head_pod(cluster), self._token(cluster)
        if pod is None or token is None or not holds(pod, "Ready"):
            return None
        ports = self._ports(pod)
        ray = self.ray.connect(ports.dashboard, token)
        details = await ray.applications()
        applications = rayservice.application_statuses(details)
        try:
            config = rayservice.serve_config(service, port=ports.serve)
        except rayservice.BadServeConfig as error:
            await self._refused(service, cluster, service["spec"].get("serveConfigV2", ""), str(error))
            return applications
        text = json.dumps(config, sort_keys=True)
        applied = self._applied.setdefault(cluster["metadata"]["uid"], _Applied())
        waits = applied.refused_at is not None and self.clock() - applied.refused_at < _REFUSED_RETRY_S
        if applied.config == text and (waits or (applications and applied.refused_at is None)):
            return applications
        try:
            await ray.apply(config)
        except RayRefused as error:
            await self._refused(service, cluster, text, str(error))
        else:
            self._applied[cluster["metadata"]["uid"]] = _Applied(text)
            await self.objects.event(
                service, "UpdatedServeApplications", f"Updated serve applications to the RayCluster {_name(cluster)}"
            )
        return applications

    async def _refused(self, service: Manifest, cluster: Manifest, config: str, message: str) -> None:
        applied = self._applied.get(cluster["metadata"]["uid"], _Applied())
        if applied.config != config or applied.refused_at is None:
            await self.objects.event(service, "FailedToUpdateServeApplications", message, kind="Warning")
        self._applied[cluster["metadata"]["uid"]] = _Applied(config, self.clock())

    async def _lead_to(self, service: Manifest, cluster: Manifest) -> None:
        name = _name(service)
        await self.objects.ensure(SERVICES, raycluster.head_service(service, f"{name}-head-svc", _name(cluster)))
        await self.objects.ensure(SERVICES, raycluster.serve_service(service, f"{name}-serve-svc", _name(cluster)))

    def _endpoints(self, service: Manifest) -> int:
        """Return how many ready pods the serve Service leads to; none while there is no such Service."""
        meta = service["metadata"]
        serve = self.objects.get(SERVICES, f"{meta['name']}-serve-svc", meta["namespace"])
        if serve is None:
            return 0
        wanted = serve["spec"]["selector"].items()
        pods = [p for p in self.objects.all(PODS) if p["metadata"]["namespace"] == meta["namespace"]]
        return sum(holds(p, "Ready") and wanted <= p["metadata"].get("labels", {}).items() for p in pods)

    async def _label_head(self, cluster: Manifest) -> None:
        """Say on the head pod whether its proxy answers; that is what Services select."""
        pod = self._head_pod(cluster)
        if pod is None or deleting(pod):
            return
        serving = holds(pod, "Ready") and await self.ray.serving(self._ports(pod).serve)
        labelled = deepcopy(pod)
        labelled["metadata"]["labels"]["ray.io/serve"] = "true" if serving else "false"
        await self.objects.replace(PODS, labelled)

    async def _retire(self, service: Manifest, clusters: Mapping[str, Manifest], keep: set[str | None]) -> None:
        """Delete clusters that no longer serve, after the delay; the time is kept in memory, as KubeRay keeps it."""
        for name, cluster in clusters.items():
            uid = cluster["metadata"]["uid"]
            if name in keep:
                self._retired.pop(uid, None)
                continue
            since = self._retired.setdefault(uid, self.clock())
            if self.clock() - since >= rayservice.deletion_delay_s(service):
                await self._delete_cluster(cluster)

    # RayJob

    async def _job(self, job: Manifest) -> None:
        clusters = {c["metadata"]["name"]: c for c in self.objects.owned(RAY_CLUSTERS, job)}
        status = job.get("status", {})
        state = status.get("jobDeploymentStatus", "")
        if deleting(job):
            await self._finish(RAY_JOBS, job, clusters, rayjob.FINALIZER)
            return
        if state in rayjob.DONE:
            if rayjob.cluster_expired(job):
                for cluster in clusters.values():
                    await self._delete_cluster(cluster)
            return
        job = await self._with_finalizer(RAY_JOBS, job, rayjob.FINALIZER)
        if state in ("", "Retrying"):
            for cluster in clusters.values():
                await self._delete_cluster(cluster)
            if not clusters:
                await self.objects.replace_status(RAY_JOBS, job, rayjob.started(job, suffix=self.suffix()))
            return
        own = clusters.get(status["rayClusterName"])
        if rayjob.overdue(job):
            message = f"the job ran longer than spec.activeDeadlineSeconds ({job['spec']['activeDeadlineSeconds']})"
            await self._stop_job(job, own)
            now = rayjob.failed(job, "DeadlineExceeded", message)
        elif own is None:
            made = raycluster.ray_cluster(job, status["rayClusterName"], job["spec"]["rayClusterSpec"])
            await self.objects.create(RAY_CLUSTERS, made)
            return
        else:
            now = await self._run_job(job, own)
        await self.objects.replace_status(RAY_JOBS, job, now)

    async def _run_job(self, job: Manifest, cluster: Manifest) -> Manifest:
        """Submit the job if its cluster has not got it, and return its status from what Ray says."""
        pod, token = self._head_pod(cluster), self._token(cluster)
        status: Manifest = job["status"]
        if pod is None or token is None or not holds(pod, "Ready"):
            return {**status, "rayClusterStatus": cluster.get("status", {})}
        port = self._ports(pod).dashboard
        ray = self.ray.connect(port, token)
        submitted = await ray.job(status["jobId"])
        if submitted is None:
            try:
                await ray.submit(rayjob.submission(job))
            except rayjob.BadJob as error:
                return rayjob.invalid(job, str(error))
            except RayRefused as error:
                return rayjob.failed(job, "SubmissionFailed", str(error))
            return {**status, "jobDeploymentStatus": "Running", "jobStatus": "PENDING"}
        now = rayjob.followed(job, submitted, dashboard=f"{LOOPBACK}:{port}")
        return {**now, "rayClusterStatus": cluster.get("status", {})}

    async def _stop_job(self, job: Manifest, cluster: Manifest | None) -> None:
        pod, token = (self._head_pod(cluster), self._token(cluster)) if cluster else (None, None)
        if pod and token:
            await self.ray.connect(self._ports(pod).dashboard, token).stop_job(job["status"]["jobId"])

    # RayCluster

    async def _cluster(self, cluster: Manifest) -> None:
        pods = self.objects.owned(PODS, cluster)
        if deleting(cluster):
            for pod in pods:
                if not deleting(pod):
                    await self.objects.delete(PODS, pod)
            return
        meta = cluster["metadata"]
        if not self._token(cluster):
            await self.objects.create(SECRETS, raycluster.token_secret(cluster, secrets.token_hex(32)))
        await self.objects.ensure(SERVICES, raycluster.head_service(cluster, f"{meta['name']}-head-svc", meta["name"]))
        message = _beyond_one_machine(cluster)
        for pod in pods:
            if pod.get("status", {}).get("phase") in ("Failed", "Succeeded") and not deleting(pod):
                await self.objects.delete(PODS, pod)
        if not pods and not message:
            try:
                pods = [await self._create_head(cluster)]
            except NoFreePorts as error:
                message = str(error)
        status = raycluster.cluster_status(cluster, pods[0] if pods else None, message)
        await self.objects.replace_status(RAY_CLUSTERS, cluster, status)

    async def _create_head(self, cluster: Manifest) -> Manifest:
        meta = cluster["metadata"]
        taken = {
            self._ports(p).base
            for p in self.objects.all(PODS)
            if kubelet.FIRST_PORT in p["metadata"].get("annotations", {})
        }
        ports = choose(str(self.home.root), taken)
        head = RayHead(meta["uid"], self.home.ray / f"{meta['namespace']}_{meta['name']}", ports)
        pod = raycluster.head_pod(cluster, head, suffix=self.suffix(), node=self.node, machine_cpus=self.machine_cpus)
        created = await self.objects.create(PODS, pod)
        await self.objects.event(cluster, "CreatedHeadPod", f"Created head Pod {meta['namespace']}/{_name(created)}")
        return created

    # Common

    async def _with_finalizer(self, resource: Resource, item: Manifest, finalizer: str) -> Manifest:
        if finalizer in item["metadata"].get("finalizers", []):
            return item
        kept = deepcopy(item)
        kept["metadata"].setdefault("finalizers", []).append(finalizer)
        return await self.objects.replace(resource, kept)

    async def _finish(
        self, resource: Resource, item: Manifest, clusters: Mapping[str, Manifest], finalizer: str
    ) -> None:
        """Let the object go once its clusters are gone, and with them the last process."""
        for cluster in clusters.values():
            await self._delete_cluster(cluster)
        if not clusters and finalizer in item["metadata"].get("finalizers", []):
            released = deepcopy(item)
            released["metadata"]["finalizers"].remove(finalizer)
            await self.objects.replace(resource, released)

    async def _delete_cluster(self, cluster: Manifest) -> None:
        if not deleting(cluster):
            self._applied.pop(cluster["metadata"]["uid"], None)
            # Foreground: the cluster stays until its pods are gone, and a pod stays until its processes are.
            await self.objects.delete(RAY_CLUSTERS, cluster, propagation="Foreground")

    def _head_pod(self, cluster: Manifest) -> Manifest | None:
        return next(iter(self.objects.owned(PODS, cluster)), None)

    def _ports(self, pod: Manifest) -> RayPorts:
        return RayPorts(int(pod["metadata"]["annotations"][kubelet.FIRST_PORT]))

    def _token(self, cluster: Manifest) -> str | None:
        meta = cluster["metadata"]
        name = cluster["spec"].get("authOptions", {}).get("secretName") or meta["name"]
        secret = self.objects.get(SECRETS, name, meta["namespace"])
        return containers.content(secret).get("auth_token", b"").decode() if secret else None


def _beyond_one_machine(cluster: Manifest) -> str:
    """Return why the cluster cannot be carried out here, or nothing."""
    groups = [g for g in cluster["spec"].get("workerGroupSpecs", []) if g.get("replicas", 0) or g.get("minReplicas", 0)]
    if not groups:
        return ""
    return f"worker group {groups[0].get('groupName')!r} asks for more machines than this one; set its replicas to 0"


def _name(item: Manifest) -> str:
    return str(item["metadata"]["name"])
