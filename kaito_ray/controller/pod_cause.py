"""Why a pod does not run: its status, the Warning Events about it, and why none could be created. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from kaito_ray.controller.cause import Cause, Sign, recognised
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find

HEAD_POD_LOST: Final = "HeadPodLost"
_IMAGE_REASONS: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG_REASONS: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")

_IMAGE: Final = (
    Sign(
        r"unauthorized|authorization failed|denied|no basic auth credentials|403 Forbidden|401 Unauthorized",
        "RegistryDenied",
        "the registry refuses {{image}}; check the pull secret",
    ),
    Sign(
        r"no such host|i/o timeout|connection refused|TLS handshake|deadline exceeded|50\d |toomanyrequests",
        "RegistryUnavailable",
        "no answer from the registry of {{image}}; trying again",
    ),
    Sign(r"", "ImagePullError", "{{image}} cannot be pulled; check its name and tag"),
)
_UNSCHEDULABLE: Final = (
    Sign(
        r"exceed(?:s|ed)? limits? for nodepool",
        "NodePoolLimitReached",
        "the NodePool may make no more machines; wait for the old pods to go",
    ),
    Sign(
        r"Insufficient ephemeral-storage",
        "InsufficientDisk",
        "no node has disk enough for the weights; take machines or a NodeClass with a bigger disk",
    ),
    Sign(
        r"untolerated taint\(?s?\)? ?\{?([^:},]+)",
        "UntoleratedTaint",
        "the nodes have the taint {0}, which the pod does not tolerate; remove it or add nodes",
    ),
    Sign(
        r"Insufficient (nvidia\.com/\S+?)[,.]",
        "InsufficientGpus",
        "no node has a free {0}; free one or add nodes",
    ),
    Sign(
        r"didn't match Pod's node affinity/selector",
        "Unschedulable",
        "no node has the labels of resource.labelSelector; label one",
    ),
    Sign(r"(.{0,200})", "Unschedulable", "no node can take the pod: {0}"),
)
_REFUSED: Final = (
    Sign(
        r'admission webhook "(.*?)" denied the request: ?(.{0,120})',
        "WebhookDenied",
        "the webhook {0} refuses the pod: {1}",
    ),
    Sign(
        r'failed calling webhook "(.*?)"',
        "WebhookUnavailable",
        "the webhook {0} does not answer, so no pod can be made; repair or remove it",
    ),
    Sign(
        r"exceeded quota: (.*?), requested: (.*?), used",
        "NamespaceQuotaExceeded",
        "the namespace's quota {0} is exceeded (asked for {1}); raise it",
    ),
    Sign(r"(.{1,200})", "PodRefused", "the pod cannot be made: {0}"),
)
_EVENTS: Final = (
    Sign(
        r'(?:secret|configmap) "(.*?)" not found',
        "VolumeNotMounted",
        "a volume cannot be mounted: {0} does not exist; create it",
    ),
    Sign(r"(?:MountVolume|AttachVolume|Unable to attach).*?: (.{1,120})", "VolumeNotMounted", "a volume cannot be mounted: {0}"),
)  # fmt: skip


def of_pods(pods: Sequence[Manifest], warnings: Sequence[Manifest]) -> Cause | None:
    """Return why one of the pods does not run; heads first, for nothing runs without one."""
    ordered = sorted(pods, key=lambda pod: (_labels(pod).get("ray.io/node-type") != "head", pod["metadata"]["name"]))
    for pod in ordered:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        about = [event for event in warnings if event["involvedObject"].get("uid") == pod["metadata"]["uid"]]
        if cause := _of_pod(pod, about):
            return cause
    return None


def of_refusal(message: str) -> Cause | None:
    """Return why a pod was not created, from the API server's words as KubeRay or the Deployment pass them on."""
    return recognised(message, _REFUSED) if message else None


def _of_pod(pod: Manifest, about: Sequence[Manifest]) -> Cause | None:
    status: Mapping[str, Any] = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return _of_failed(status)
    for container in chain(status.get("initContainerStatuses") or (), status.get("containerStatuses") or ()):
        if cause := _of_container(container, about):
            return cause
    scheduled = find(status, "PodScheduled")
    if scheduled.get("status") == "False":
        # Karpenter says in Events why it makes no node; the scheduler's condition says what is missing.
        words = " ".join(chain(_messages(about, "FailedScheduling"), [scheduled.get("message", "")]))
        return recognised(words, _UNSCHEDULABLE)
    return recognised(" ".join(_messages(about, "FailedMount", "FailedAttachVolume")), _EVENTS)


def _of_failed(status: Mapping[str, Any]) -> Cause:
    reason, message = status.get("reason", ""), status.get("message", "")
    if reason == "Evicted" and ("ephemeral" in message or "disk" in message.lower() or "inodes" in message):
        return Cause("NodeDiskPressure", "the pod was evicted, for the node's disk is full; take a bigger disk")
    if reason == "Evicted" and "memory" in message:
        return Cause("NodeMemoryPressure", "the pod was evicted, for the node ran out of memory; take a bigger one")
    if reason in ("NodeLost", "NodeAffinity", "Terminated", "NodeShutdown"):
        return Cause(HEAD_POD_LOST, "the pod was lost with its node; another is made")
    return Cause("PodEvicted" if reason == "Evicted" else "PodFailed", f"the pod ended: {message or reason}")


def _of_container(container: Mapping[str, Any], about: Sequence[Manifest]) -> Cause | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    ended = (container.get("state") or {}).get("terminated") or {}
    before = (container.get("lastState") or {}).get("terminated") or {}
    reason, message = waiting.get("reason"), waiting.get("message", "")
    if "OOMKilled" in (ended.get("reason"), before.get("reason")) and not container.get("ready"):
        return Cause("ContainerOOMKilled", "the container ran out of memory; take a machine with more of it")
    if reason in _IMAGE_REASONS:
        words = " ".join(chain([message], _messages(about, "Failed")))
        found = recognised(words, _IMAGE)
        return found and Cause(found.reason, found.message.replace("{image}", container.get("image", "")))
    if reason == "CrashLoopBackOff":
        said = before.get("message") or (f"exit code {before['exitCode']}" if "exitCode" in before else "see its logs")
        return Cause("ContainerCrashLoopBackOff", f"the container keeps crashing: {said}")
    if reason in _CONFIG_REASONS:
        return Cause("ContainerStartError", f"the container cannot be started: {message}")
    return None


def _messages(about: Sequence[Manifest], *reasons: str) -> Iterator[str]:
    return (event.get("message", "") for event in about if event.get("reason") in reasons)


def _labels(pod: Manifest) -> Mapping[str, str]:
    labels: Mapping[str, str] = pod["metadata"].get("labels") or {}
    return labels
