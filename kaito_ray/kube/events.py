"""Every Event that the operator emits, one function each, and how an Event is written.

Events answer "what happened, and why" for a person who runs `kubectl describe workspace`. The same words about the same
object are one Event with a count: its name follows from them, so that nothing has to be searched for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from kaito_ray.api import names
from kaito_ray.errors import UserError
from kaito_ray.kube.cluster import EVENTS, Cluster, Manifest

log = logging.getLogger(__name__)

_MESSAGE_LIMIT: Final = 1024
"""Kubernetes refuses longer messages."""


@dataclass(frozen=True)
class Note:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def planned(sentence: str) -> Note:
    """The model was planned; the sentence says how."""
    return Note("Normal", "Planned", sentence)


def instance_type_substituted(requested: str, used: str) -> Note:
    """Another machine than the manifest's is used, because that one is not on offer here."""
    return Note("Normal", "InstanceTypeSubstituted", f"{requested} is not on offer here; {used} is used instead")


def instance_type_retired(requested: str, used: str) -> Note:
    """Another machine than the manifest's is used, because the provider withdrew that one."""
    message = f"{requested} was retired by its provider; {used} is used instead, so name that in resource.instanceType"
    return Note("Warning", "InstanceTypeRetired", message)


def nodes_ready(message: str) -> Note:
    """All machines are there."""
    return Note("Normal", "NodesReady", message)


def serving_started(what: str) -> Note:
    """The RayService or Deployment was created."""
    return Note("Normal", "ServingStarted", f"created {what}")


def serving_changed(what: str) -> Note:
    """The RayService or Deployment was written again."""
    return Note("Normal", "ServingChanged", f"updated {what}")


def model_ready(model: str, endpoint: str) -> Note:
    """The model answers."""
    return Note("Normal", "ModelReady", f"{model} answers at {endpoint}")


def model_not_ready(message: str) -> Note:
    """The model answered, and does no more."""
    return Note("Warning", "ModelNotReady", message)


def adapter_ready(name: str, digest: str) -> Note:
    """An adapter is served."""
    return Note("Normal", "AdapterReady", f"adapter {name} is served ({digest})")


def adapter_failed(name: str, message: str) -> Note:
    """An adapter cannot be served; the model is, without it."""
    return Note("Warning", "AdapterFailed", f"adapter {name}: {message}")


def tuning_started(ray_job: str) -> Note:
    """The RayJob was created."""
    return Note("Normal", "TuningStarted", f"created RayJob {ray_job}")


def tuning_succeeded(message: str) -> Note:
    """The adapter is where it should go."""
    return Note("Normal", "TuningSucceeded", message)


def tuning_failed(message: str) -> Note:
    """The job ended without delivering an adapter."""
    return Note("Warning", "TuningFailed", message)


def failing(reason: str, message: str) -> Note:
    """Serving failed in a way that waiting may not mend."""
    return Note("Warning", reason, message)


def refused(reason: str, message: str) -> Note:
    """The Workspace cannot be carried out as it is."""
    return Note("Warning", reason, message)


def deleting() -> Note:
    """Deletion began."""
    return Note("Normal", "Deleting", "stopping Ray, then returning the machines")


def not_reconciling(why: str) -> Note:
    """The operator leaves every Workspace alone, because another one owns them."""
    return Note("Warning", "NotReconciling", why)


def timestamp() -> str:
    """Return the present time as Kubernetes writes it, RFC 3339 in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def emit(cluster: Cluster, about: Manifest, note: Note, *, now: str) -> None:
    """Write the Event, or count it once more; one that may not be written is logged, for it must not stop the work.

    Raises:
        errors.TransientError: it is not written yet; a pass that goes on regardless would never tell it again.
    """
    meta = about["metadata"]
    namespace = meta.get("namespace", "default")
    name = f"{meta['name']}.{names.short_hash(meta['uid'], note.type, note.reason, note.message)}"
    try:
        found = await cluster.get(EVENTS, name, namespace)
        if found is None:
            await cluster.create(EVENTS, _event(about, note, name, namespace, now))
        elif found.get("lastTimestamp") != now:  # else it was told in this very second, and the teller was killed
            await cluster.replace(EVENTS, {**found, "count": found.get("count", 1) + 1, "lastTimestamp": now})
    except UserError as error:
        log.warning("event not written", extra={"event": note.reason, "object": meta["name"], "error": str(error)})


def _event(about: Manifest, note: Note, name: str, namespace: str, now: str) -> Manifest:
    meta = about["metadata"]
    message = note.message
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": meta["name"],
            **({"namespace": namespace} if "namespace" in meta else {}),
            "uid": meta["uid"],
        },
        "type": note.type,
        "reason": note.reason,
        "message": message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…",
        "source": {"component": names.MANAGED_BY},
        "reportingComponent": names.MANAGED_BY,
        "reportingInstance": names.MANAGED_BY,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
