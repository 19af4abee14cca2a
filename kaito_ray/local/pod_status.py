"""The status of a pod whose one container is a local process. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kaito_ray.kube.cluster import Manifest
from kaito_ray.local.objects import condition, timestamp
from kaito_ray.local.ports import LOOPBACK

_FIRST_BACKOFF_S: Final = 10.0
_LAST_BACKOFF_S: Final = 300.0
_STEADY_S: Final = 600.0


@dataclass(frozen=True)
class Container:
    """What is known of the process."""

    state: Mapping[str, Any]
    """`{"running": {...}}`, `{"waiting": {...}}` or `{"terminated": {...}}`, as Kubernetes writes it."""
    last_state: Mapping[str, Any]
    """How the run before this one ended; empty for the first."""
    restarts: int
    """How often it was started again."""
    ready: bool
    """Whether the readiness probe passed."""
    pid: int | None = None
    """The process, while it runs."""


def of(pod: Manifest) -> Container:
    """Return what the pod's status says about its container."""
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    first = statuses[0]
    return Container(
        state=first.get("state", {}), last_state=first.get("lastState", {}), restarts=first.get("restartCount", 0),
        ready=first.get("ready", False),
    )  # fmt: skip


def pod_status(pod: Manifest, container: Container) -> Manifest:
    """Return the pod's status, as a kubelet writes it."""
    before = pod.get("status", {})
    conditions = before.get("conditions", [])
    spec = pod["spec"]["containers"][0]
    unready = () if container.ready else ("ContainersNotReady", f"containers with unready status: [{spec['name']}]")
    started = before.get("startTime") or timestamp()
    return {
        "phase": "Running" if "running" in container.state or container.restarts else "Pending",
        "conditions": [
            condition(conditions, "PodScheduled", True, ""),
            condition(conditions, "Initialized", True, ""),
            condition(conditions, "ContainersReady", container.ready, *(unready or ("",))),
            condition(conditions, "Ready", container.ready, *(unready or ("",))),
        ],
        "hostIP": LOOPBACK,
        "hostIPs": [{"ip": LOOPBACK}],
        "podIP": LOOPBACK,
        "podIPs": [{"ip": LOOPBACK}],
        "startTime": started,
        "qosClass": "Burstable",
        "containerStatuses": [
            {
                "name": spec["name"],
                "image": spec.get("image", ""),
                "imageID": "",
                "containerID": f"process://{container.pid}" if container.pid else "",
                "ready": container.ready,
                "started": "running" in container.state,
                "restartCount": container.restarts,
                "state": dict(container.state),
                "lastState": dict(container.last_state),
            }
        ],
    }


def failed_status(pod: Manifest, reason: str, message: str) -> Manifest:
    """Return the status of a pod that will never run; its controller makes another one."""
    return {**pod.get("status", {}), "phase": "Failed", "reason": reason, "message": message}


def running(started_at: str) -> Manifest:
    """Return the state of a process that runs."""
    return {"running": {"startedAt": started_at}}


def terminated(exit_code: int, started_at: str | None) -> Manifest:
    """Return the state of a process that ended by itself."""
    return {
        "terminated": {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": started_at,
            "finishedAt": timestamp(),
        }
    }


def waiting(reason: str, message: str) -> Manifest:
    """Return the state of a container that is not started yet."""
    return {"waiting": {"reason": reason, "message": message}}


def backoff_s(restarts: int, ran_s: float) -> float:
    """Return how long to wait before the next start: as a kubelet, at once, then 10 s, doubling up to five minutes.

    A run of ten minutes forgets the past.
    """
    if ran_s >= _STEADY_S or restarts == 0:
        return 0.0
    return float(min(_FIRST_BACKOFF_S * 2 ** (restarts - 1), _LAST_BACKOFF_S))
