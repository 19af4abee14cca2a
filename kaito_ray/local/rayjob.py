"""What KubeRay v1.7 decides about a RayJob in HTTPMode, and the status that it writes. Pure.

`jobDeploymentStatus` goes "" -> Initializing -> Running -> Complete | Failed; a retry goes through Retrying to "".
The other submission modes end in the same request to Ray's Jobs API; on one machine there is nobody else to send it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from kaito_ray.kube.cluster import Manifest
from kaito_ray.local.objects import timestamp

FINALIZER: Final = "ray.io/rayjob-finalizer"
DONE: Final = ("Complete", "Failed", "ValidationFailed")
_TERMINAL: Final = {"SUCCEEDED": "Complete", "STOPPED": "Complete", "FAILED": "Failed"}


class BadJob(ValueError):
    """The RayJob's spec cannot be carried out; the message names the field."""


def started(job: Manifest, *, suffix: str) -> Manifest:
    """Return the status of a job that begins: its ids are recorded before anything is made."""
    name = job["metadata"]["name"]
    before = job.get("status", {})
    return {
        "jobId": job["spec"].get("jobId") or f"{name}-{suffix}",
        "rayClusterName": f"{name}-{suffix}",
        "jobDeploymentStatus": "Initializing",
        "jobStatus": "",
        "startTime": timestamp(),
        "failed": before.get("failed", 0),
        "succeeded": before.get("succeeded", 0),
        "observedGeneration": job["metadata"].get("generation", 1),
    }


def submission(job: Manifest) -> dict[str, Any]:
    """Return the body of `POST /api/jobs/`.

    Raises:
        BadJob: a field is not what Ray takes.
    """
    spec = job["spec"]
    if not spec.get("entrypoint"):
        raise BadJob("spec.entrypoint: is empty; say what to run")
    body: dict[str, Any] = {"entrypoint": spec["entrypoint"], "submission_id": job["status"]["jobId"]}
    if text := spec.get("runtimeEnvYAML"):
        try:
            body["runtime_env"] = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise BadJob(f"spec.runtimeEnvYAML: is not YAML: {error}") from error
    if metadata := spec.get("metadata"):
        body["metadata"] = metadata
    for field, name in (("entrypointNumCpus", "entrypoint_num_cpus"), ("entrypointNumGpus", "entrypoint_num_gpus")):
        if field in spec:
            body[name] = spec[field]
    if text := spec.get("entrypointResources"):
        try:
            body["entrypoint_resources"] = json.loads(text)
        except ValueError as error:
            raise BadJob(f"spec.entrypointResources: is not JSON: {error}") from error
    return body


def followed(job: Manifest, info: Mapping[str, Any], *, dashboard: str) -> Manifest:
    """Return the status of a submitted job, from what Ray says of it."""
    status = {
        **job["status"],
        "jobStatus": info["status"],
        "message": info.get("message") or "",
        "jobDeploymentStatus": "Running",
        "dashboardURL": dashboard,
        "rayJobInfo": {
            name: _time(info[key])
            for name, key in (("startTime", "start_time"), ("endTime", "end_time"))
            if info.get(key)
        },
    }
    return ended(job, status, info["status"]) if info["status"] in _TERMINAL else status


def ended(job: Manifest, status: Manifest, word: str, reason: str = "AppFailed") -> Manifest:
    """Return the status of a job that came to its end: `word` is Ray's own, `reason` says why where it failed."""
    good = _TERMINAL[word] == "Complete"
    failed = status.get("failed", 0) + (not good)
    retry = not good and reason != "DeadlineExceeded" and failed <= job["spec"].get("backoffLimit", 0)
    return {
        **status,
        "jobDeploymentStatus": "Retrying" if retry else _TERMINAL[word],
        "succeeded": status.get("succeeded", 0) + good,
        "failed": failed,
        "endTime": timestamp(),
        **({} if good else {"reason": reason}),
    }


def failed(job: Manifest, reason: str, message: str) -> Manifest:
    """Return the status of a job that failed for a reason outside its own program."""
    status = {**job.get("status", {}), "message": message}
    return ended(job, status, "FAILED", reason)


def invalid(job: Manifest, message: str) -> Manifest:
    """Return the status of a job whose spec must be changed."""
    status = job.get("status", {})
    return {**status, "jobDeploymentStatus": "ValidationFailed", "reason": "ValidationFailed", "message": message}


def overdue(job: Manifest, ran_s: float) -> bool:
    """Return whether a job that has run for `ran_s` runs longer than `activeDeadlineSeconds`."""
    limit = job["spec"].get("activeDeadlineSeconds")
    return bool(limit and ran_s > limit)


def cluster_expired(job: Manifest, ended_s: float) -> bool:
    """Return whether the cluster of a job that ended `ended_s` ago should go."""
    spec, status = job["spec"], job.get("status", {})
    if status.get("jobDeploymentStatus") not in DONE or not spec.get("shutdownAfterJobFinishes"):
        return False
    return bool(ended_s >= spec.get("ttlSecondsAfterFinished", 0))


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
