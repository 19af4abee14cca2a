"""RayJob: makes its cluster, submits the job to it once, follows it, and ends the cluster when asked to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kaito_ray.kube.cluster import RAY_JOBS, Manifest
from kaito_ray.local import rayjob
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.ports import LOOPBACK
from kaito_ray.local.ray_clusters import RayClusters
from kaito_ray.local.ray_rest import RayRefused
from kaito_ray.local.stopwatch import Stopwatches


@dataclass(frozen=True)
class RayJobController:
    """The controller."""

    objects: Objects
    clusters: RayClusters
    watches: Stopwatches = field(default_factory=Stopwatches)

    async def reconcile(self, job: Manifest) -> None:
        """Carry one job one step on."""
        if deleting(job):
            self.watches.forget(job["metadata"]["uid"])
            await self.clusters.release(RAY_JOBS, job, rayjob.FINALIZER)
            return
        owned = self.clusters.owned(job)
        state = job.get("status", {}).get("jobDeploymentStatus", "")
        if state in rayjob.DONE:
            if rayjob.cluster_expired(job, self._since(job, "endTime")):
                await self.clusters.end(owned.values())
            return
        job = await self.clusters.hold(RAY_JOBS, job, rayjob.FINALIZER)
        if state in ("", "Retrying"):
            await self.clusters.end(owned.values())
            if not owned:
                started = rayjob.started(job, suffix=self.clusters.suffix())
                await self.objects.replace_status(RAY_JOBS, job, started)
            return
        cluster = owned.get(job["status"]["rayClusterName"])
        if cluster is None:
            cluster = await self.clusters.make(job, job["status"]["rayClusterName"], job["spec"]["rayClusterSpec"])
        await self.objects.replace_status(RAY_JOBS, job, await self._run(job, cluster))

    async def _run(self, job: Manifest, cluster: Manifest) -> Manifest:
        """Submit the job if its cluster has not got it, and return its status from what Ray says."""
        status: Manifest = {**job["status"], "rayClusterStatus": cluster.get("status", {})}
        reached = self.clusters.reach(cluster)
        if rayjob.overdue(job, self._since(job, "startTime")):
            if reached:
                await reached[0].stop_job(status["jobId"])
            return rayjob.failed(job, "DeadlineExceeded", "the job ran longer than spec.activeDeadlineSeconds")
        if reached is None:
            return status
        ray, ports = reached
        info = await ray.job(status["jobId"])
        if info is not None:
            followed = rayjob.followed(job, info, dashboard=f"{LOOPBACK}:{ports.dashboard}")
            return {**followed, "rayClusterStatus": status["rayClusterStatus"]}
        try:
            await ray.submit(rayjob.submission(job))
        except rayjob.BadJob as error:
            return rayjob.invalid(job, str(error))
        except RayRefused as error:
            return rayjob.failed(job, "SubmissionFailed", str(error))
        return {**status, "jobDeploymentStatus": "Running", "jobStatus": "PENDING"}

    def _since(self, job: Manifest, moment: str) -> float:
        """Return the seconds since a moment that the job's status notes; for ever, where it notes none."""
        then = job.get("status", {}).get(moment)
        return self.watches.seconds_since(then, what=job["metadata"]["uid"]) if then else math.inf
