"""Publishes Services on loopback: what kube-proxy and a load balancer do in a cluster.

A Service with a selector gets the host ports of a ready pod that it selects, in `status.loadBalancer`; when no pod is
ready, it gets nothing, so that an address which is there answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kaito_ray.kube.cluster import PODS, SERVICES, Manifest
from kaito_ray.kube.conditions import holds
from kaito_ray.local.objects import Objects, deleting
from kaito_ray.local.ports import LOOPBACK


async def publish(objects: Objects) -> None:
    """Bring every Service's status in line with the pods."""
    pods = [pod for pod in objects.all(PODS) if holds(pod, "Ready") and not deleting(pod)]
    for service in objects.all(SERVICES):
        if service["spec"].get("selector") and not deleting(service):
            wanted = {**service.get("status", {}), "loadBalancer": load_balancer(service, pods)}
            await objects.replace_status(SERVICES, service, wanted)


def load_balancer(service: Manifest, pods: Sequence[Manifest]) -> dict[str, Any]:
    """Return `status.loadBalancer` of a Service, given the ready pods of all namespaces.

    Of several pods the youngest is taken: during an upgrade, that is where traffic has just been led.
    """
    selector = service["spec"]["selector"].items()
    chosen = [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        and selector <= pod["metadata"].get("labels", {}).items()
    ]
    if not chosen:
        return {}
    pod = max(chosen, key=lambda p: (p["metadata"].get("creationTimestamp", ""), p["metadata"]["name"]))
    ports = [{"port": local, "protocol": "TCP"} for p in service["spec"].get("ports", []) if (local := _local(p, pod))]
    return {"ingress": [{"ip": LOOPBACK, "ports": ports}]} if ports else {}


def _local(port: Manifest, pod: Manifest) -> int | None:
    """Return the host port behind a Service's port; `targetPort` is a name or a number, by default the port itself."""
    target = port.get("targetPort", port["port"])
    for container in pod["spec"]["containers"]:
        for declared in container.get("ports", []):
            if target in (declared.get("name"), declared["containerPort"]):
                return int(declared["hostPort"]) if "hostPort" in declared else None
    return None
