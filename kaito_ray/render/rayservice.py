"""Workspace + plan -> RayService.

Equal inputs give equal bytes: KubeRay hashes `rayClusterConfig`, lists in order, and any difference starts a second
cluster beside the first, with GPUs of its own. So lists are written in a fixed order, and nothing here may depend on
time or chance.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Final

from kaito_ray.api import names
from kaito_ray.api.app_args import REGISTRY_MOUNT
from kaito_ray.api.rules.resource import RESERVED_LABELS
from kaito_ray.catalog.gpus import Machine
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.render import adapters, secrets
from kaito_ray.render.inputs import RAY_VERSION, Manifest, ServingInputs
from kaito_ray.render.meta import child_meta, pod_labels
from kaito_ray.render.serve_config import serve_config

# KubeRay recognises these names. As soon as one port is declared, only declared ones are used, so all of them are.
PORTS: Final = (
    ("gcs-server", names.GCS_PORT),
    ("dashboard", names.DASHBOARD_PORT),
    ("client", names.CLIENT_PORT),
    ("metrics", names.METRICS_PORT),
    ("serve", names.SERVE_PORT),
)
_OBJECT_STORE_BYTES: Final = 512 * 2**20
"""Serving moves next to nothing through Ray's object store; its default is 30% of the memory."""
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
        "rayStartParams": {
            "dashboard-host": "0.0.0.0",  # noqa: S104 - Ray's token guards it, and KubeRay must reach it
            "num-cpus": str(_ray_cpus(inputs.plan.machine)),
            "object-store-memory": str(_OBJECT_STORE_BYTES),
        },
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
        "rayStartParams": {"num-cpus": str(_ray_cpus(inputs.plan.machine))},
        "template": _pod(inputs),
    }
    return [group]


def _pod(inputs: ServingInputs) -> Manifest:
    return {
        "metadata": {
            "labels": pod_labels(inputs.workspace),
            # From the first day: added later, it would start a second cluster.
            "annotations": {"karpenter.sh/do-not-disrupt": "true"},
        },
        "spec": {
            "containers": [_container(inputs)],
            "nodeSelector": _node_selector(inputs),
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
            ],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 120,
            "volumes": [
                {"name": "cache", "emptyDir": {}},
                *secrets.volumes(inputs.workspace),
                *adapters.volumes(inputs.inference),
            ],
        },
    }


def _container(inputs: ServingInputs) -> Manifest:
    return {
        "name": "ray",
        "image": inputs.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in PORTS],
        "env": _env(inputs),
        "resources": _resources(inputs.plan),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": "/home/ray/.cache"},
            {"name": "keys", "mountPath": secrets.KEYS_MOUNT, "readOnly": True},
            {"name": "registry", "mountPath": REGISTRY_MOUNT, "readOnly": True},
            *adapters.mounts(inputs.inference),
        ],
    }


def _env(inputs: ServingInputs) -> list[Manifest]:
    env: list[Manifest] = [
        # Both are needed for HAProxy to reach the replica in one hop.
        {"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "1"},
        {"name": "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING", "value": "1"},
    ]
    preset = inputs.workspace.preset
    options = preset.preset_options if preset else None
    if options and options.model_access_secret:
        token = {"secretKeyRef": {"name": options.model_access_secret, "key": "HF_TOKEN"}}
        env.append({"name": "HF_TOKEN", "valueFrom": token})
    return env


def _resources(plan: ServingPlan) -> Manifest:
    """Requests that one machine can meet beside its own daemons, and limits; one pod takes one machine's GPUs."""
    machine, memory = plan.machine, plan.memory
    requests: dict[str, str] = {"ephemeral-storage": _mebibytes(plan.preset.weights_bytes * 1.2 + 10 * 2**30)}
    limits: dict[str, str] = {}
    if machine.cpus:
        requests["cpu"] = str(max(1, floor(machine.cpus) - 1))
        limits["cpu"] = str(_ray_cpus(machine))
    if machine.device == "cuda":
        limits["nvidia.com/gpu"] = requests["nvidia.com/gpu"] = str(machine.gpu_count)
        if machine.memory_bytes:
            limits["memory"] = requests["memory"] = _mebibytes(machine.memory_bytes * _GPU_MEMORY_SHARE)
    elif machine.memory_bytes:
        needed = memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes
        requests["memory"] = _mebibytes(needed * plan.data_parallel)
        limits["memory"] = _mebibytes(machine.memory_bytes * _MEMORY_LIMIT_SHARE)
    return {"requests": dict(sorted(requests.items())), "limits": dict(sorted(limits.items()))}


def _ray_cpus(machine: Machine) -> int:
    return max(1, floor(machine.cpus or 1))


def _node_selector(inputs: ServingInputs) -> dict[str, str]:
    labels = inputs.workspace.resource.label_selector.as_labels()
    mine = {key: value for key, value in labels.items() if key not in RESERVED_LABELS}
    if inputs.provisioner == "byo":
        return mine
    return mine | pod_labels(inputs.workspace)


def _mebibytes(amount: float) -> str:
    return f"{ceil(amount / 2**20)}Mi"
