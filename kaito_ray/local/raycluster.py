"""RayCluster -> the objects that KubeRay makes of it, and its status. Pure.

Facts: KubeRay v1.7, `docs/adr/` says where this machine must differ.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256
from math import ceil
from typing import Any, Final

from kaito_ray.catalog.gpus import quantity
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import holds
from kaito_ray.local import kubelet
from kaito_ray.local.objects import condition, owner_reference, timestamp
from kaito_ray.local.ports import LOOPBACK
from kaito_ray.local.ray_head import RayHead, start_command

KUBERAY_VERSION: Final = "v1.7.0"
HASH: Final = "ray.io/hash-without-replicas-and-workers-to-delete"
DEFAULT_PORTS: Final = {"client": 10001, "gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}

_NOT_HASHED: Final = ("suspend", "upgradeStrategy")
_NOT_HASHED_IN_GROUPS: Final = ("replicas", "minReplicas", "maxReplicas", "scaleStrategy", "suspend")


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Return a hash of what cannot change in a live cluster, as KubeRay: not of replicas, tolerations, gates."""
    kept = {k: deepcopy(v) for k, v in spec.items() if k not in _NOT_HASHED}
    groups = kept.get("workerGroupSpecs", [])
    for group in groups:
        for name in _NOT_HASHED_IN_GROUPS:
            group.pop(name, None)
    for group in (kept.get("headGroupSpec", {}), *groups):
        pod = group.get("template", {}).get("spec", {})
        pod.pop("tolerations", None)
        pod.pop("schedulingGates", None)
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]


def ray_cluster(owner: Manifest, name: str, spec: Mapping[str, Any]) -> Manifest:
    """Return the RayCluster of a RayService or RayJob; labels and annotations are copied, as KubeRay does."""
    meta = owner["metadata"]
    annotations = {k: v for k, v in meta.get("annotations", {}).items() if not k.startswith("kubectl.")}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {
                **meta.get("labels", {}),
                "ray.io/originated-from-cr-name": meta["name"],
                "ray.io/originated-from-crd": owner["kind"],
            },
            "annotations": {**annotations, HASH: spec_hash(spec), "ray.io/kuberay-version": KUBERAY_VERSION},
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": deepcopy(dict(spec)),
    }


def token_secret(cluster: Manifest, token: str) -> Manifest:
    """Return the Secret with the cluster's token."""
    return _child(cluster, "v1", "Secret", cluster["metadata"]["name"]) | {
        "type": "Opaque",
        "data": {"auth_token": b64encode(token.encode()).decode()},
    }


def head_service(owner: Manifest, name: str, cluster: str) -> Manifest:
    """Return a Service that leads to the head of a cluster."""
    selector = {"ray.io/cluster": cluster, "ray.io/node-type": "head"}
    ports = [{"name": k, "port": v, "targetPort": k, "protocol": "TCP"} for k, v in sorted(DEFAULT_PORTS.items())]
    return _child(owner, "v1", "Service", name, {**selector, "app.kubernetes.io/name": "kuberay"}) | {
        "spec": {"type": "ClusterIP", "selector": selector, "ports": ports}
    }


def serve_service(owner: Manifest, name: str, cluster: str) -> Manifest:
    """Return the Service that leads to the pods of a cluster which serve."""
    ports = [{"name": "serve", "port": DEFAULT_PORTS["serve"], "targetPort": "serve", "protocol": "TCP"}]
    labels = {"ray.io/originated-from-cr-name": owner["metadata"]["name"], "ray.io/serve": f"{name[:58]}"}
    return _child(owner, "v1", "Service", name, labels) | {
        "spec": {
            "type": "ClusterIP",
            "selector": {"ray.io/cluster": cluster, "ray.io/serve": "true"},
            "ports": ports,
        }
    }


def head_pod(cluster: Manifest, head: RayHead, *, suffix: str, node: str, machine_cpus: int) -> Manifest:
    """Return the head pod: the template with KubeRay's labels and command, and the local ports as host ports."""
    meta, spec = cluster["metadata"], cluster["spec"]
    group = spec["headGroupSpec"]
    template = deepcopy(group["template"])
    name = meta["name"]
    pod_spec = template["spec"]
    container = pod_spec["containers"][0]
    resources = container.get("resources", {})
    cpus = _amount(resources, "cpu")
    memory = _amount(resources, "memory")
    local = head.ports.by_container_port()
    declared = {port.get("name"): port for port in container.get("ports", [])}
    for port_name, number in DEFAULT_PORTS.items():
        port = declared.setdefault(port_name, {"name": port_name, "containerPort": number, "protocol": "TCP"})
        port["hostPort"] = local[port_name]
    container["ports"] = list(declared.values())
    container["command"] = start_command(
        head,
        group.get("rayStartParams", {}),
        cpus=ceil(cpus) if cpus else machine_cpus,
        memory_bytes=int(memory) if memory else None,
    )
    container.pop("args", None)
    container["env"] = [*container.get("env", []), *_kuberay_env(cluster)]
    pod_spec["nodeName"] = node
    pod_spec.setdefault("restartPolicy", "Always")
    labels = {
        "app.kubernetes.io/created-by": "kuberay-operator",
        "app.kubernetes.io/name": "kuberay",
        "ray.io/identifier": f"{name}-head",
        "ray.io/is-ray-node": "yes",
        **({"ray.io/serve": "false"} if _of_service(cluster) else {}),
        **template.get("metadata", {}).get("labels", {}),
        "ray.io/cluster": name,
        "ray.io/group": "headgroup",
        "ray.io/node-type": "head",
    }
    annotations = {**template.get("metadata", {}).get("annotations", {}), kubelet.FIRST_PORT: str(head.ports.base)}
    pod = _child(cluster, "v1", "Pod", f"{name[:50]}-head-{suffix}", labels)
    pod["metadata"] |= {"annotations": annotations, "finalizers": [kubelet.FINALIZER]}
    return pod | {"spec": pod_spec}


def cluster_status(cluster: Manifest, pod: Manifest | None, message: str = "") -> Manifest:
    """Return the RayCluster's status; `message` says why there is no pod, where that is so."""
    before = cluster.get("status", {})
    conditions = before.get("conditions", [])
    ready = pod is not None and holds(pod, "Ready")
    provisioned = ready or holds(cluster, "RayClusterProvisioned")
    if pod is None:
        reason, words = "HeadPodNotFound", message or "there is no head pod yet"
    else:
        reason, words = ("HeadPodRunningAndReady", "") if ready else _why_not_ready(pod)
    status = {
        **before,
        "desiredWorkerReplicas": 0,
        "availableWorkerReplicas": 0,
        "readyWorkerReplicas": 0,
        "minWorkerReplicas": 0,
        "maxWorkerReplicas": 0,
        "observedGeneration": cluster["metadata"].get("generation", 1),
        "conditions": [
            condition(conditions, "HeadPodReady", ready, reason, words),
            condition(
                conditions,
                "RayClusterProvisioned",
                provisioned,
                "AllPodRunningAndReadyFirstTime" if provisioned else "RayClusterPodsProvisioning",
                "" if provisioned else "RayCluster pods are being provisioned for the first time",
            ),
            *([condition(conditions, "ReplicaFailure", True, "FailedCreateHeadPod", message)] if message else []),
        ],
    }
    if pod is not None:
        service = f"{cluster['metadata']['name']}-head-svc"
        status["head"] = {
            "podIP": LOOPBACK,
            "podName": pod["metadata"]["name"],
            "serviceIP": LOOPBACK,
            "serviceName": service,
        }
        ports = pod["spec"]["containers"][0]["ports"]
        status["endpoints"] = {p["name"]: str(p["hostPort"]) for p in ports if "hostPort" in p}
    if provisioned and before.get("state") != "ready":
        now = timestamp()
        status |= {"state": "ready", "stateTransitionTimes": {**before.get("stateTransitionTimes", {}), "ready": now}}
    return _updated(before, status)


def beyond_one_machine(cluster: Manifest) -> str:
    """Return why the cluster cannot be carried out here, or nothing."""
    groups = [g for g in cluster["spec"].get("workerGroupSpecs", []) if g.get("replicas", 0) or g.get("minReplicas", 0)]
    if not groups:
        return ""
    return f"worker group {groups[0].get('groupName')!r} asks for more machines than this one; set its replicas to 0"


def _updated(before: Manifest, status: Manifest) -> Manifest:
    """Return the status with the time of its last change, as KubeRay keeps it."""
    same = {k: v for k, v in before.items() if k != "lastUpdateTime"} == {
        k: v for k, v in status.items() if k != "lastUpdateTime"
    }
    return before if same else {**status, "lastUpdateTime": timestamp()}


def _why_not_ready(pod: Manifest) -> tuple[str, str]:
    """Return the container's own reason where it has one, as KubeRay does."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed":
        return status.get("reason", "Failed"), status.get("message", "")
    for container in status.get("containerStatuses", []):
        for state in ("waiting", "terminated"):
            if found := container["state"].get(state):
                return found.get("reason", "Unknown"), found.get("message", "")
    return "ContainersNotReady", "the Ray head is starting"


def _kuberay_env(cluster: Manifest) -> list[Manifest]:
    meta, spec = cluster["metadata"], cluster["spec"]
    pod_name = {"fieldRef": {"fieldPath": "metadata.name"}}
    env: list[Manifest] = [
        {"name": "RAY_CLUSTER_NAME", "value": meta["name"]},
        {"name": "RAY_CLUSTER_NAMESPACE", "value": meta["namespace"]},
        {"name": "RAY_CLOUD_INSTANCE_ID", "valueFrom": pod_name},
        {"name": "RAY_NODE_TYPE_NAME", "value": "headgroup"},
    ]
    if _of_service(cluster):
        env += [
            {"name": "RAY_timeout_ms_task_wait_for_death_info", "value": "0"},
            {"name": "RAY_gcs_server_request_timeout_seconds", "value": "5"},
            {"name": "RAY_SERVE_KV_TIMEOUT_S", "value": "5"},
        ]
    options = spec.get("authOptions", {})
    secret = {"name": options.get("secretName") or meta["name"], "key": "auth_token"}
    env += [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": secret}},
    ]
    return env


def _of_service(cluster: Manifest) -> bool:
    return bool(cluster["metadata"].get("labels", {}).get("ray.io/originated-from-crd") == "RayService")


def _amount(resources: Mapping[str, Any], name: str) -> float | None:
    text = resources.get("limits", {}).get(name, resources.get("requests", {}).get(name))
    return quantity(text) if text is not None else None


def _child(
    owner: Manifest, api_version: str, kind: str, name: str, labels: Mapping[str, str] | None = None
) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(labels or {}),
            "ownerReferences": [owner_reference(owner)],
        },
    }
