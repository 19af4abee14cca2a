"""The pod of Ray that serving and tuning share: one on each machine, and the head is one of them.

KubeRay hashes what is in here, lists in order: an edit starts a second cluster beside each serving one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Final

from kaito_ray.api import names
from kaito_ray.api.rules.resource import RESERVED_LABELS
from kaito_ray.api.workspace import Workspace
from kaito_ray.catalog.gpus import Machine
from kaito_ray.render.inputs import Manifest, Provisioner
from kaito_ray.render.meta import pod_labels

# KubeRay recognises these names. As soon as one port is declared, only declared ones are used, so all of them are.
RAY_PORTS: Final = (
    ("gcs-server", names.GCS_PORT),
    ("dashboard", names.DASHBOARD_PORT),
    ("client", names.CLIENT_PORT),
    ("metrics", names.METRICS_PORT),
)
TOLERATIONS: Final = (
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "sku", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"},
)
"""Taints of GPU nodes: NVIDIA's and KAITO's."""
GRACE_S: Final = 120
"""How long a pod that serves may take to end; a spot machine that is taken back has that long, or less."""
CACHE_MOUNT: Final = "/home/ray/.cache"
"""Downloads of the Ray user; the volume of that name goes with the pod."""
_OBJECT_STORE_BYTES: Final = 512 * 2**20
"""Serving and tuning move next to nothing through Ray's object store; its default is 30% of the memory."""


def head_start_params(machine: Machine) -> dict[str, str]:
    """Return how `ray start` is called in the head pod."""
    return {
        "dashboard-host": "0.0.0.0",  # noqa: S104 - Ray's token guards it, and KubeRay must reach it
        "num-cpus": str(ray_cpus(machine)),
        "object-store-memory": str(_OBJECT_STORE_BYTES),
    }


def pod(
    workspace: Workspace,
    provisioner: Provisioner,
    container: Manifest,
    volumes: Sequence[Manifest],
    *,
    grace_s: int,
) -> Manifest:
    """Return the pod template; `grace_s` is how long it may take to end."""
    return {
        "metadata": {
            "labels": pod_labels(workspace),
            # From the first day: added later, it would start a second cluster.
            "annotations": {"karpenter.sh/do-not-disrupt": "true"},
        },
        "spec": {
            "containers": [container],
            "nodeSelector": node_selector(workspace, provisioner),
            "tolerations": [dict(one) for one in TOLERATIONS],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": grace_s,
            "volumes": list(volumes),
        },
    }


def pod_anywhere(workspace: Workspace, container: Manifest, volumes: Sequence[Manifest]) -> Manifest:
    """Return the template of a pod that wants no machine of its own: any node without a taint will do."""
    return {
        "metadata": {"labels": pod_labels(workspace)},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 10,
            "volumes": list(volumes),
        },
    }


def container(
    image: str,
    *,
    ports: Iterable[tuple[str, int]],
    env: Sequence[Manifest],
    resources: Manifest,
    mounts: Sequence[Manifest],
) -> Manifest:
    """Return the Ray container, which KubeRay takes to be the first of its pod."""
    return {
        "name": "ray",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "env": list(env),
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
        "volumeMounts": list(mounts),
    }


def hub_access(workspace: Workspace, endpoint: str | None) -> list[Manifest]:
    """Return the environment of the hub's client: a mirror, where there is one, and what opens gated models."""
    mirror = [{"name": "HF_ENDPOINT", "value": endpoint}] if endpoint else []
    options = workspace.preset.preset_options if workspace.preset else None
    if not (options and options.model_access_secret):
        return mirror
    token = {"secretKeyRef": {"name": options.model_access_secret, "key": "HF_TOKEN"}}
    return [*mirror, {"name": "HF_TOKEN", "valueFrom": token}]


def ray_cpus(machine: Machine) -> int:
    """Return what Ray counts as CPUs: all of the machine's."""
    return max(1, floor(machine.cpus or 1))


def requested_cpus(machine: Machine) -> dict[str, str]:
    """Return the CPU request that the machine can meet beside its own daemons; empty where its CPUs are not known."""
    return {"cpu": str(max(1, floor(machine.cpus) - 1))} if machine.cpus else {}


def mebibytes(amount: float) -> str:
    """Return a quantity of at least so many bytes."""
    return f"{ceil(amount / 2**20)}Mi"


def node_selector(workspace: Workspace, provisioner: Provisioner) -> dict[str, str]:
    """Return the labels of the nodes that a pod of the Workspace may run on."""
    labels = workspace.resource.label_selector.as_labels()
    mine = {key: value for key, value in labels.items() if key not in RESERVED_LABELS}
    return mine if provisioner == "byo" else mine | pod_labels(workspace)
