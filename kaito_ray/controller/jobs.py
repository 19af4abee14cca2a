"""What a tuning job has printed, from Ray's dashboard.

A RayJob's status says whether the job runs, not how far it is; the job's own log does. It is read with the token that
KubeRay made for the cluster, so neither the job nor its pod needs any right on the Kubernetes API.

Ray's Jobs API has only whole logs, which grow with every step; its State API has the last lines of any log file, by the
node that it lies on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp

from kaito_ray.controller.ray_token import ray_token
from kaito_ray.kube.cluster import Cluster, Manifest

log = logging.getLogger(__name__)

TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


class Jobs(Protocol):
    """The jobs of Ray clusters."""

    async def log(self, dashboard: str, job: str, token: str, *, last: int | None = None) -> tuple[str, ...] | None:
        """Return the `last` lines that the job has printed, without it all of them; None where Ray does not answer."""


class HttpJobs:
    """The jobs, asked over HTTP."""

    async def log(self, dashboard: str, job: str, token: str, *, last: int | None = None) -> tuple[str, ...] | None:
        """As `Jobs.log`."""
        headers = {"x-ray-authorization": f"Bearer {token}"}
        try:
            async with aiohttp.ClientSession(
                f"http://{dashboard}", headers=headers, timeout=TIMEOUT, raise_for_status=True
            ) as ray:
                text = await _whole(ray, job) if last is None else await _tail(ray, job, last)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            log.info("Ray did not give the job's log", extra={"job": job, "error": str(error)})
            return None
        return tuple(text.splitlines())


async def _whole(ray: aiohttp.ClientSession, job: str) -> str:
    async with ray.get(f"/api/jobs/{job}/logs") as answer:
        return str((await answer.json()).get("logs") or "")


async def _tail(ray: aiohttp.ClientSession, job: str, lines: int) -> str:
    async with ray.get(f"/api/jobs/{job}") as answer:
        node = (await answer.json()).get("driver_node_id")
    if node is None:  # it waits for its driver to start
        return ""
    where = {"node_id": node, "filename": f"job-driver-{job}.log", "lines": str(lines)}
    async with ray.get("/api/v0/logs/file", params=where) as answer:
        return await answer.text(errors="replace")


async def job_log(
    cluster: Cluster, jobs: Jobs, ray_job: Manifest, *, last: int | None = None
) -> tuple[str, ...] | None:
    """Return the `last` lines that the job of that RayJob has printed, without it all of them.

    None where it cannot be asked (yet, or any more).
    """
    status: Mapping[str, Any] = ray_job.get("status") or {}
    dashboard, job, ray_cluster = (status.get(key) for key in ("dashboardURL", "jobId", "rayClusterName"))
    if not (dashboard and job and ray_cluster):
        return None
    token = await ray_token(cluster, ray_cluster, ray_job["metadata"]["namespace"])
    return await jobs.log(dashboard, job, token, last=last) if token else None
