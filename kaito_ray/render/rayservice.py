"""Workspace + plan -> RayService.

Equal inputs give equal bytes: KubeRay hashes `rayClusterConfig`, lists in order, and any difference starts a second
cluster beside the first, with GPUs of its own. So lists are written in a fixed order, and nothing here may depend on
time or chance.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.api.app_args import KEYS_MOUNT, REGISTRY_MOUNT
from kaito_ray.api.workspace import Workspace
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.render import adapters, secrets
from kaito_ray.render.inputs import RAY_VERSION, Manifest, ServingInputs
from kaito_ray.render.meta import child_meta
from kaito_ray.render.raypod import (
    CACHE_MOUNT,
    RAY_PORTS,
    container,
    head_start_params,
    hub_access,
    mebibytes,
    pod,
    ray_cpus,
    requested_cpus,
)
from kaito_ray.render.serve_config import serve_config

PORTS: Final = (*RAY_PORTS, ("serve", names.SERVE_PORT))
_GPU_MEMORY_SHARE: Final = 0.75
"""Of a GPU machine's nominal memory: Karpenter, the kubelet and DaemonSets keep up to a tenth of it."""
_MEMORY_LIMIT_SHARE: Final = 0.9


def rayservice(inputs: ServingInputs) -> Manifest:
    """Return the RayService that serves the Workspace as planned."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": child_meta(inputs.workspace, names.ray_service(inputs.workspace.metadata.name)),
        "spec": {
            "serveConfigV2": serve_config(inputs),
            "upgradeStrategy": {"type": "NewCluster"},
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": "token"},
                "headGroupSpec": _head_group(inputs),
                "workerGroupSpecs": _worker_groups(inputs),
            },
        },
    }


def _head_group(inputs: ServingInputs) -> Manifest:
    """The head pod. With one machine the engine runs in it: a head must not cost another machine."""
    return {
        "rayStartParams": head_start_params(inputs.plan.machine),
        "template": _pod(inputs),
    }


def _worker_groups(inputs: ServingInputs) -> list[Manifest]:
    """The machines beside the head's, one pod on each, as one group that lives and dies together."""
    others = inputs.plan.nodes - 1
    if others == 0:
        return []
    group: Manifest = {
        "groupName": "gpu",
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": 1,
        "numOfHosts": others,
        "rayStartParams": {"num-cpus": str(ray_cpus(inputs.plan.machine))},
        "template": _pod(inputs),
    }
    return [group]


def _pod(inputs: ServingInputs) -> Manifest:
    volumes = [
        {"name": "cache", "emptyDir": {}},
        *secrets.volumes(inputs.workspace),
        *adapters.volumes(inputs.inference),
    ]
    return pod(inputs.workspace, inputs.provisioner, _container(inputs), volumes, grace_s=120)


def _container(inputs: ServingInputs) -> Manifest:
    return container(
        inputs.image,
        ports=PORTS,
        env=[
            # Both are needed for HAProxy to reach the replica in one hop.
            {"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "1"},
            {"name": "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING", "value": "1"},
            *_retry(inputs.workspace),
            *hub_access(inputs.workspace, inputs.hub_endpoint),
        ],
        resources=_resources(inputs.plan),
        mounts=[
            {"name": "cache", "mountPath": CACHE_MOUNT},
            {"name": "keys", "mountPath": KEYS_MOUNT, "readOnly": True},
            {"name": "registry", "mountPath": REGISTRY_MOUNT, "readOnly": True},
            *adapters.mounts(inputs.inference),
        ],
    )


def _retry(workspace: Workspace) -> list[Manifest]:
    """Return what makes KubeRay start new pods: a value that nobody reads."""
    asked = workspace.metadata.annotations.get(names.RETRY_ANNOTATION)
    return [{"name": "KAITO_RAY_RETRY", "value": asked}] if asked else []


def _resources(plan: ServingPlan) -> Manifest:
    """Requests that one machine can meet beside its own daemons, and limits; one pod takes one machine's GPUs."""
    machine, memory = plan.machine, plan.memory
    requests: dict[str, str] = {"ephemeral-storage": mebibytes(plan.preset.weights_bytes * 1.2 + 10 * 2**30)}
    limits: dict[str, str] = {}
    if machine.cpus:
        requests |= requested_cpus(machine)
        limits["cpu"] = str(ray_cpus(machine))
    if machine.device == "cuda":
        limits["nvidia.com/gpu"] = requests["nvidia.com/gpu"] = str(machine.gpu_count)
        if machine.memory_bytes:
            limits["memory"] = requests["memory"] = mebibytes(machine.memory_bytes * _GPU_MEMORY_SHARE)
    elif machine.memory_bytes:
        needed = memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes
        requests["memory"] = mebibytes(needed * plan.data_parallel)
        limits["memory"] = mebibytes(machine.memory_bytes * _MEMORY_LIMIT_SHARE)
    return {"requests": dict(sorted(requests.items())), "limits": dict(sorted(limits.items()))}
