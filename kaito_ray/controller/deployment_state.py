"""How far a Deployment has come, as far as its own status says. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import find


@dataclass(frozen=True)
class DeploymentState:
    """The counts of one moment."""

    wanted: int
    available: int
    updated: int
    total: int
    """Pods of the present template and of those before."""
    refused: str
    """Why no pod can be made; empty where they can."""
    late: bool
    """Whether the Deployment's own deadline has passed."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the state of a Deployment; no pod is up to date with a template that its controller has not seen yet."""
        status = manifest.get("status") or {}
        current = status.get("observedGeneration", 0) >= manifest["metadata"].get("generation", 0)
        failure, moving = find(status, "ReplicaFailure"), find(status, "Progressing")
        return cls(
            wanted=manifest["spec"].get("replicas", 1),
            available=status.get("availableReplicas", 0),
            updated=status.get("updatedReplicas", 0) if current else 0,
            total=status.get("replicas", 0),
            refused=str(failure.get("message") or "") if failure.get("status") == "True" else "",
            late=moving.get("status") == "False" and moving.get("reason") == "ProgressDeadlineExceeded",
        )

    @property
    def settled(self) -> bool:
        """Whether every pod is available and of the present template."""
        return self.available >= self.wanted == self.updated == self.total
