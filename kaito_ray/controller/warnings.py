"""Warning Events that say what no status says: why a volume is not mounted, why a machine was given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kaito_ray.errors import ApiRefused
from kaito_ray.kube.cluster import EVENTS, Cluster, Manifest

_PODS: Final = 3
"""So many waiting pods are asked about; the others wait for the same reason."""


async def of_pods(cluster: Cluster, pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the Warnings about those pods that do not run yet."""
    waiting = [pod for pod in pods if (pod.get("status") or {}).get("phase") in (None, "Pending")]
    found: list[Manifest] = []
    for pod in waiting[:_PODS]:
        meta = pod["metadata"]
        found += await _listed(cluster, meta["namespace"], {"involvedObject.uid": meta["uid"], "type": "Warning"})
    return found


async def of_claims(cluster: Cluster) -> list[Manifest]:
    """Return the Warnings about every NodeClaim."""
    # Events about objects without a namespace are kept in this one.
    return await _listed(cluster, "default", {"involvedObject.kind": "NodeClaim", "type": "Warning"})


async def _listed(cluster: Cluster, namespace: str, wanted: dict[str, str]) -> list[Manifest]:
    try:
        return await cluster.list(EVENTS, namespace, fields=wanted)
    except ApiRefused:  # the operator may not read them: told without
        return []
