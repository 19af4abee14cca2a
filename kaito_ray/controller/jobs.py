"""What a tuning job has printed, from Ray's Jobs API.

A RayJob's status says whether the job runs, not how far it is; the job's own log does. It is read with the token that
KubeRay made for the cluster, so neither the job nor its pod needs any right on the Kubernetes API.
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

    async def log(self, dashboard: str, job: str, token: str) -> tuple[str, ...] | None:
        """Return the lines that the job has printed; None where Ray does not answer."""


class HttpJobs:
    """The jobs, asked over HTTP."""

    async def log(self, dashboard: str, job: str, token: str) -> tuple[str, ...] | None:
        """As `Jobs.log`."""
        url, headers = f"http://{dashboard}/api/jobs/{job}/logs", {"x-ray-authorization": f"Bearer {token}"}
        try:
            async with aiohttp.ClientSession(timeout=TIMEOUT) as session, session.get(url, headers=headers) as answer:
                answer.raise_for_status()
                body = await answer.json()
            return tuple(str(body.get("logs") or "").splitlines())
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            log.info("Ray did not give the job's log", extra={"job": job, "error": str(error)})
            return None


async def job_log(cluster: Cluster, jobs: Jobs, ray_job: Manifest) -> tuple[str, ...] | None:
    """Return what the job of that RayJob has printed; None where it cannot be asked (yet, or any more)."""
    status: Mapping[str, Any] = ray_job.get("status") or {}
    dashboard, job, ray_cluster = (status.get(key) for key in ("dashboardURL", "jobId", "rayClusterName"))
    if not (dashboard and job and ray_cluster):
        return None
    token = await ray_token(cluster, ray_cluster, ray_job["metadata"]["namespace"])
    return await jobs.log(dashboard, job, token) if token else None
