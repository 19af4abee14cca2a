"""How far serving has come, as far as a RayService's status says. Pure.

`Ready` of a RayService means that one endpoint exists, no more; whether the application runs is written beside it. Its
first deployment is reported under `pendingServiceStatus` until it is promoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito_ray.api import conditions as c
from kaito_ray.controller.engine_cause import of_engine
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find


@dataclass(frozen=True)
class Progress:
    """One moment of serving."""

    ready: bool
    reason: str
    """The reason of `InferenceReady`."""
    message: str
    """For people: what is being waited for, or what failed and what to do."""


DEPLOY_FAILED: Final = "DeployFailed"
UNHEALTHY: Final = "ReplicaUnhealthy"
_POD_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    "ImagePullBackOff": ("ImagePullError", "the worker image cannot be pulled"),
    "ErrImagePull": ("ImagePullError", "the worker image cannot be pulled"),
    "CrashLoopBackOff": ("ContainerCrashLoopBackOff", "the Ray container keeps crashing; see its logs"),
    "OOMKilled": ("ContainerOOMKilled", "the Ray container ran out of memory"),
    "CreateContainerConfigError": ("ContainerStartError", "the Ray container cannot be configured"),
    "RunContainerError": ("ContainerStartError", "the Ray container cannot be started"),
    "Unschedulable": ("Unschedulable", "no node can take the Ray pod"),
}
"""Reasons of a head pod that does not get ready -> KAITO's words for them."""
_SLOW_START: Final = "This may be caused by a slow __init__"
"""Serve's note on a replica that starts for more than half a minute, as every model does: no news."""
_FATAL: Final = ("ValidationFailed", "InitializingTimeout")
_OUR_ERROR: Final = re.compile(r"^(?:kaito_ray|deployments|tuning)[\w.]*: ")
"""The class of an error of ours, whose words are written for people."""
_ERROR_LINE: Final = re.compile(r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Refused|DoesNotFit|Unavailable|NotFound)\b.*")


def progress(service: Manifest | None, *, was_ready: bool) -> Progress:
    """Return where serving stands; `was_ready` says that it answered before this reading."""
    if service is None:
        return _waiting("the Ray service is being created")
    status = service.get("status") or {}
    ready = find(status, "Ready")
    if ready.get("reason") in _FATAL:
        return Progress(False, ready["reason"], f"KubeRay gave up: {shortened(ready.get('message', ''))}")
    if ready.get("reason") == "ReconcileFailed":
        return Progress(
            False, "ReconcileFailed", f"KubeRay failed, and tries again: {shortened(ready.get('message', ''))}"
        )
    active = status.get("activeServiceStatus") or {}
    pending = status.get("pendingServiceStatus") or {}
    serving = ready.get("status") == "True" and bool(active.get("rayClusterName"))
    current = active if serving or not pending.get("rayClusterName") else pending
    applications = list((current.get("applicationStatuses") or {}).values())
    states = {application.get("status") for application in applications}
    for failed in ("DEPLOY_FAILED", "UNHEALTHY"):
        if failed in states:
            return _failure(failed, next(a for a in applications if a.get("status") == failed))
    if serving and (was_ready or states == {"RUNNING"}):
        # Still answering: an upgrade hides the old cluster's applications, and a change in place says DEPLOYING.
        return Progress(True, c.INFERENCE_READY_REASON, "the model answers")
    if states == {"RUNNING"}:
        return _waiting("the model is loaded; waiting for its endpoint")
    if applications:
        return _waiting(_deploying(applications[0]))
    return _cluster(current)


def shortened(message: str, limit: int = 400) -> str:
    """Return the line of a traceback or log that says what happened, at most `limit` characters long."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    text = errors[-1] if errors else lines[-1] if lines else "no reason was given"
    text = _OUR_ERROR.sub("", text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _waiting(message: str) -> Progress:
    return Progress(False, c.INFERENCE_PENDING_REASON, message)


def _failure(state: str, application: Mapping[str, Any]) -> Progress:
    deployments = (application.get("serveDeploymentStatuses") or {}).values()
    # The application says no more than that a deployment failed; why stands in that deployment's traceback.
    messages = [*(d.get("message") for d in deployments if d.get("status") == state), application.get("message")]
    words = next(filter(None, messages), "")
    if cause := of_engine(words):
        return Progress(False, cause.reason, cause.message)
    said = shortened(words)
    if state == "UNHEALTHY":
        return Progress(False, UNHEALTHY, f"the replica does not answer and is restarted: {said}")
    return Progress(
        False, DEPLOY_FAILED, f"Ray Serve could not start the model: {said}; correct the Workspace, or see its logs"
    )


def _deploying(application: Mapping[str, Any]) -> str:
    for deployment in (application.get("serveDeploymentStatuses") or {}).values():
        message = deployment.get("message", "")
        if message and _SLOW_START not in message:
            return f"loading the model: {shortened(message, 200)}"
    return "loading the model"


def _cluster(current: Mapping[str, Any]) -> Progress:
    """Return what the Ray cluster waits for, while Serve has said nothing."""
    if not current.get("rayClusterName"):
        return _waiting("waiting for KubeRay to create the Ray cluster")
    head = find(current.get("rayClusterStatus"), "HeadPodReady")
    if head.get("status") == "True":
        return _waiting("Ray runs; starting Ray Serve")
    reason = head.get("reason", "HeadPodNotFound")
    if reason in _POD_REASONS:
        word, what = _POD_REASONS[reason]
        said = head.get("message", "")
        return Progress(False, word, f"{what}: {shortened(said)}" if said else what)
    if reason == "HeadPodNotFound":
        return _waiting("waiting for the Ray pod")
    return _waiting("starting Ray")
