"""Why serving is not ready, from everything around it: the pods, their Events, KubeRay's and Serve's words. Pure."""

from __future__ import annotations

from typing import Any, Final

from kaito_ray.controller.cause import Cause
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.offers import is_ready
from kaito_ray.controller.pod_cause import HEAD_POD_LOST, of_pods, of_refusal
from kaito_ray.controller.progress import DEPLOY_FAILED, Progress
from kaito_ray.kube.conditions import find, holds

_SCHEDULING: Final = ("Unschedulable", "UntoleratedTaint", "InsufficientGpus", "InsufficientDisk")
"""Causes that stand for a while whenever machines are on their way."""


def diagnosed(found: Progress, seen: Observed, *, was_ready: bool) -> Progress:
    """Return the progress with the cause that stands behind it, where one is known."""
    if found.ready or found.reason == DEPLOY_FAILED:
        return found
    cause = cause_of_refusal(seen) or cause_of_pods(seen)
    if cause is None and was_ready:
        cause = _lost(seen)
    return Progress(False, cause.reason, cause.message) if cause else found


def cause_of_refusal(seen: Observed) -> Cause | None:
    """Return why KubeRay may not create a pod, where that is so: a quota, or admission."""
    return of_refusal(_creation_failure(seen))


def cause_of_pods(seen: Observed) -> Cause | None:
    """Return why one of the pods does not run; that none can be placed is no news while machines are on their way."""
    cause = of_pods(seen.pods, seen.warnings)
    coming = any(not holds(claim, "Ready") for claim in seen.node_claims)
    return None if cause and cause.reason in _SCHEDULING and coming else cause


def _lost(seen: Observed) -> Cause | None:
    """Return what became of a head pod that served; without its own store, Ray starts anew with it."""
    heads = [pod for pod in seen.pods if (pod["metadata"].get("labels") or {}).get("ray.io/node-type") == "head"]
    broken = {node["metadata"]["name"] for node in seen.nodes if not is_ready(node)}
    gone = [name for pod in heads if (name := (pod.get("spec") or {}).get("nodeName")) in broken]
    if gone:
        return Cause(HEAD_POD_LOST, f"the Ray head pod is lost: its node {gone[0]} is not ready; KubeRay makes another")
    if not heads or any("deletionTimestamp" in pod["metadata"] for pod in heads):
        return Cause(HEAD_POD_LOST, "the Ray head pod is gone; KubeRay makes another and loads the model again")
    return None


def _creation_failure(seen: Observed) -> str:
    """Return why KubeRay could not create a pod, from its condition `ReplicaFailure`."""
    status: dict[str, Any] = (seen.ray_service or {}).get("status") or {}
    for which in ("pendingServiceStatus", "activeServiceStatus"):
        failure = find((status.get(which) or {}).get("rayClusterStatus"), "ReplicaFailure")
        if failure.get("status") == "True":
            return str(failure.get("message") or failure.get("reason") or "")
    return ""
