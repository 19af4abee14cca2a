"""What a tuning job prints, read where the operator reads it: Ray's Jobs API, with the cluster's token.

The job's driver is no container of its own, so its words are in no pod's log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from kaito_ray.api import names
from kaito_ray.cli import connection
from kaito_ray.kube.cluster import RAY_JOBS

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Cluster

POLL_S: Final = 1.0
_ENDED: Final = ("Complete", "Failed", "ValidationFailed")

Lines = tuple[str, ...]


async def read(cluster: Cluster, namespace: str, workspace: str) -> tuple[Lines | None, bool]:
    """Return what the job has printed, and whether it has ended; None where Ray cannot be asked (yet, or any more)."""
    from kaito_ray.controller.jobs import HttpJobs, job_log

    job = await cluster.get(RAY_JOBS, names.ray_job(workspace), namespace)
    if job is None:
        return None, False
    return await job_log(cluster, HttpJobs(), job), _deployment(job) in _ENDED


def follow(target: connection.Target, workspace: str, *, after: int) -> Iterator[str]:
    """Yield each line once, but for the first `after`, until the job has ended."""
    printed = after
    while True:
        lines, ended = connection.ask(target, lambda cluster: read(cluster, target.namespace, workspace))
        # A job that KubeRay starts again begins a log of its own.
        printed = 0 if lines is not None and len(lines) < printed else printed
        yield from (lines or ())[printed:]
        printed = len(lines) if lines is not None else printed
        if ended:
            return
        time.sleep(POLL_S)


def _deployment(job: Mapping[str, Any]) -> str:
    return str((job.get("status") or {}).get("jobDeploymentStatus") or "")
