"""What the drain of a node may do to the Ray pods of a Workspace: nothing, while they work.

A model takes minutes to load, and Ray's pods are made anew only after the old ones are gone; so an eviction is an outage,
and one that Karpenter is told not to cause either (`karpenter.sh/do-not-disrupt`). Whoever drains a node is told which
Workspace is in the way, and decides: `kubectl delete pod` moves it, at the price of that outage.

A single pod that is not ready, for it loads or is broken, may always be evicted: nothing is lost with it, and a broken
model must not keep a node. With several machines that cannot be allowed: KubeRay never calls the pods ready that hold no
replica of Serve, and yet the model ends with any of them.

Where replicas come and go, the number is that of the most there may be: whatever runs is protected, and no number follows load.
"""

from __future__ import annotations

from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_meta, pod_labels


def disruption_budget(workspace: Workspace, pods: int, *, at_once: int | None = None) -> Manifest:
    """Return the PodDisruptionBudget for that many pods, one on each machine, `at_once` of which, or all, are one model."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_meta(workspace, workspace.metadata.name),
        "spec": {
            # A number: of a RayCluster, Kubernetes cannot tell how many pods it wants, so shares mean nothing to it.
            "minAvailable": pods,
            # Not by the name of the Ray cluster, which changes with every upgrade.
            "selector": {"matchLabels": pod_labels(workspace)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow" if (at_once or pods) == 1 else "IfHealthyBudget",
        },
    }
