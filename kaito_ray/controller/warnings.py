"""Warning Events that say what no status says: why a volume is not mounted, why a machine was given up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from kaito_ray.errors import ApiRefused
from kaito_ray.kube.cluster import EVENTS, Cluster, Manifest

FRESH_S: Final = 5.0
"""How long one reading of the NodeClaims' Events serves every Workspace."""
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


@dataclass
class ClaimWarnings:
    """The Warnings about NodeClaims, read at most every `FRESH_S` for all Workspaces together.

    A claim that met no capacity is gone within a second, and its name is known to nobody: so all are read.
    """

    cluster: Cluster
    _read_at: float = -FRESH_S
    _events: list[Manifest] = field(default_factory=list)

    async def read(self) -> list[Manifest]:
        """Return them."""
        if monotonic() - self._read_at >= FRESH_S:
            wanted = {"involvedObject.kind": "NodeClaim", "type": "Warning"}
            # Events about objects without a namespace are kept in this one.
            self._events = await _listed(self.cluster, "default", wanted)
            self._read_at = monotonic()
        return self._events


async def _listed(cluster: Cluster, namespace: str, wanted: dict[str, str]) -> list[Manifest]:
    try:
        return await cluster.list(EVENTS, namespace, fields=wanted)
    except ApiRefused:  # the operator may not read them: told without
        return []
