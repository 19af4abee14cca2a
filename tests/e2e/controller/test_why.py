"""WHY, the column: each cause is put into the cluster as the object that tells of it, and read from kubectl's table."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kaito_ray.kube.cluster import EVENTS, NODE_CLAIMS, NODE_POOLS, NODES, PODS, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import workspace
from tests.operator import INSTANCE_TYPE, Scene, claim, condition, failed_app, operator, ray_pod, starting

Plays = Callable[[Scene, str], Awaitable[None]]


def launch_fails(reason: str, message: str) -> Plays:
    async def play(scene: Scene, name: str) -> None:
        spec = (await scene.exists(NODE_POOLS, f"default-{name}"))["spec"]["template"]["spec"]
        said = {"status": "Unknown", "reason": reason, "message": message}
        await scene.make(NODE_CLAIMS, claim(name, spec, launched=said))

    return play


async def claim_is_given_up(scene: Scene, name: str) -> None:
    """Karpenter's way: an Event, and the claim is gone."""
    spec = (await scene.exists(NODE_POOLS, f"default-{name}"))["spec"]["template"]["spec"]
    made = await scene.make(NODE_CLAIMS, claim(name, spec))
    await warn(scene, "NodeClaim", made, "InsufficientCapacityError", "all requested instance types were unavailable")
    await scene.cluster.delete(NODE_CLAIMS, made["metadata"]["name"])


def serve_fails(message: str) -> Plays:
    async def play(scene: Scene, name: str) -> None:
        await scene.machine(name)
        await scene.exists(RAY_SERVICES, name)
        await scene.tell(RAY_SERVICES, name, starting(f"{name}-aaaaa", **failed_app(message)))

    return play


def pod_says(status: dict[str, Any], *events: tuple[str, str]) -> Plays:
    async def play(scene: Scene, name: str) -> None:
        await scene.machine(name)
        await scene.exists(RAY_SERVICES, name)
        made = await scene.make(PODS, ray_pod(name, status))
        for reason, message in events:
            await warn(scene, "Pod", made, reason, message)
        if events:  # as a kubelet goes on
            await scene.cluster.replace_status(PODS, {**made, "status": {**status, "message": "again"}})

    return play


def creation_fails(message: str) -> Plays:
    async def play(scene: Scene, name: str) -> None:
        await scene.machine(name)
        failed = {"conditions": [condition("ReplicaFailure", "True", "FailedCreateHeadPod", message)]}
        await scene.tell(RAY_SERVICES, name, starting(f"{name}-aaaaa", rayClusterStatus=failed))

    return play


async def node_dies(scene: Scene, name: str) -> None:
    await scene.machine(name)
    running = {"phase": "Running", "conditions": [condition("Ready", "True", "")]}
    await scene.make(PODS, ray_pod(name, running, node=f"node-{name}"))
    await scene.served(name)

    async def ready() -> bool:
        return (await scene.condition(name, "WorkspaceReady")).get("status") == "True"

    await scene.until(ready)
    dead = await scene.exists(NODES, f"node-{name}")
    dead["status"]["conditions"] = [condition("Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting.")]
    await scene.cluster.replace_status(NODES, dead)
    status = (await scene.exists(RAY_SERVICES, name))["status"]
    status["conditions"] = [condition("Ready", "False", "ZeroServeEndpoints")]
    status["activeServiceStatus"]["applicationStatuses"] = {}
    await scene.tell(RAY_SERVICES, name, status)


async def nothing_happens(scene: Scene, name: str) -> None:
    await scene.machine(name)
    application = {"applicationStatuses": {"workspace": {"status": "DEPLOYING", "message": ""}}}
    await scene.tell(RAY_SERVICES, name, starting(f"{name}-aaaaa", **application))


def container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    said = {
        "name": "ray", "image": "ghcr.io/kaito-ray/worker:0.1.0", "imageID": "", "ready": False, "restartCount": 1,
        "state": state, "lastState": last or {},
    }  # fmt: skip
    return {"phase": "Pending", "containerStatuses": [said]}


def pull(message: str) -> dict[str, Any]:
    return container({"waiting": {"reason": "ImagePullBackOff", "message": message}})


def unschedulable(message: str) -> dict[str, Any]:
    return {"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable", message)]}


BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=ray"}}
KV_CACHE = (
    "ValueError: To serve at least one request with the models's max seq len (131072), (16.0 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (4.00 GiB). Based on the available memory, the estimated "
    "maximum model length is 32752. Try increasing `gpu_memory_utilization`."
)
CAUSES: dict[str, tuple[str, str, Plays]] = {
    "quota": ("QuotaExceeded", "quota", launch_fails("LaunchFailed", "Family vCPU quota exceeded in region eastus")),
    "capacity": ("SKUNotAvailable", "no capacity", launch_fails("SKUNotAvailable", "not available in eastus")),
    "gone": ("InsufficientCapacityError", "no capacity", claim_is_given_up),
    "gated": ("ModelGated", "gated", serve_fails(
        "kaito_ray.weights.problems.WeightsUnavailable: the hub asks for permission to read org/model: accept ..."
    )),
    "token": ("HubTokenInvalid", "token", serve_fails("httpx.HTTPError: 401 Client Error: Invalid user token.")),
    "weights": ("WeightsImageDenied", "imagePullSecrets", serve_fails(
        "kaito_ray.weights.problems.WeightsUnavailable: the weights' image cannot be pulled: r.example.com/m:1: "
        "r.example.com answered 401; name a Secret for r.example.com in imagePullSecrets, or check that its user ..."
    )),
    "image": ("ImagePullError", "check its name and tag", pod_says(pull("Back-off pulling: manifest unknown"))),
    "oom": ("ContainerOOMKilled", "memory", pod_says(
        container(BACK_OFF, {"terminated": {"reason": "OOMKilled", "exitCode": 137}})
    )),
    "context": ("ContextTooLong", "max-model-len", serve_fails(KV_CACHE)),
    "rank": ("LoraRankTooHigh", "rank 128", serve_fails("ValueError: LoRA rank 128 is greater than max_lora_rank 64.")),
    "taint": ("UntoleratedTaint", "dedicated", pod_says(
        unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {dedicated: batch}.")
    )),
    "disk": ("NodeDiskPressure", "disk", pod_says(
        {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."}
    )),
    "registry": ("RegistryDenied", "pull secret", pod_says(
        pull("Back-off pulling image"), ("Failed", "Failed to pull image: 401 Unauthorized")
    )),
    "webhook": ("WebhookDenied", "policy.example.com", creation_fails(
        'admission webhook "policy.example.com" denied the request: images must be signed'
    )),
    "head": ("HeadPodLost", "node-head", node_dies),
    "architecture": ("UnsupportedArchitecture", "FooForCausalLM", serve_fails(
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now."
    )),
    "timeout": ("RolloutTimedOut", "not ready after", nothing_happens),
    "unscheduled": ("Unschedulable", "labelSelector", pod_says(
        unschedulable("0/5 nodes are available: 5 node(s) didn't match Pod's node affinity/selector.")
    )),
    "crash": ("ContainerCrashLoopBackOff", "exit code 1", pod_says(
        container(BACK_OFF, {"terminated": {"reason": "Error", "exitCode": 1}})
    )),
    "cuda": ("CudaError", "driver", serve_fails("RuntimeError: CUDA driver version is insufficient for CUDA runtime")),
    "volume": ("VolumeNotMounted", "certs", pod_says(
        {"phase": "Pending"}, ("FailedMount", 'MountVolume.SetUp failed for volume "x": secret "certs" not found')
    )),
    "limits": ("NamespaceQuotaExceeded", "team", creation_fails(
        'pods "h" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4'
    )),
}  # fmt: skip
"""Cause -> reason, words that the column shows, and what is put into the cluster."""


async def warn(scene: Scene, kind: str, about: dict[str, Any], reason: str, message: str) -> None:
    meta = about["metadata"]
    where = {"namespace": meta["namespace"]} if "namespace" in meta else {}
    await scene.cluster.create(
        EVENTS,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta['name']}.{reason.lower()}", "namespace": meta.get("namespace", "default")},
            "involvedObject": {"kind": kind, "name": meta["name"], "uid": meta["uid"], **where},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": "2026-01-01T00:00:00Z",
        },
    )


async def test_each_cause_has_its_reason_and_its_line_in_the_why_column(tmp_path: Path) -> None:
    async with operator(tmp_path, "--provider", "azure", "--rollout-deadline", "3") as scene:

        async def put(name: str, play: Plays) -> None:
            given = workspace(
                metadata={"name": name},
                resource={"instanceType": INSTANCE_TYPE},
                inference={"preset": {"name": "phi-4"}},
            )
            await scene.cluster.create(WORKSPACES, given)
            await play(scene, name)

        async def told(name: str, reason: str) -> None:
            async def found() -> bool:
                conditions = ((await scene.workspace(name)).get("status") or {}).get("conditions") or ()
                return any(c["reason"] == reason and c["status"] == "False" for c in conditions)

            try:
                await scene.until(found)
            except AssertionError as error:
                raise AssertionError(f"{name}: {(await scene.workspace(name)).get('status')}") from error

        await asyncio.gather(*(put(name, play) for name, (_, _, play) in CAUSES.items()))
        await asyncio.gather(*(told(name, reason) for name, (reason, _, _) in CAUSES.items()))
        table = subprocess.run(
            ["kubectl", "--kubeconfig", str(scene.server.kubeconfig), "get", "workspace", "-o", "wide"],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        assert await scene.stop() == 0
    column = table[0].index("WHY")
    lines = {row.split()[0]: row[column:].strip() for row in table[1:]}
    for name, (_, words, _) in CAUSES.items():
        assert words in lines[name], (name, lines[name])
        assert len(lines[name]) <= 100
    reasons = [reason for reason, _, _ in CAUSES.values()]
    assert len(set(reasons)) == len(reasons)
