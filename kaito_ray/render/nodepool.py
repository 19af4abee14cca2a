"""The NodePool of a Workspace: Ray's pods ask for machines, Karpenter makes them, and takes them back when empty."""

from __future__ import annotations

from kaito_ray.api import names
from kaito_ray.render.inputs import Manifest, ServingInputs
from kaito_ray.render.meta import child_labels
from kaito_ray.render.nodes import NEVER, NodeInputs, node_class, node_labels, notice, offering, requirement, taints
from kaito_ray.render.scaling import most_machines


def nodepool(inputs: NodeInputs) -> Manifest:
    """Return the NodePool.

    Raises:
        ValueError: nodes are the person's own (`byo`), so there is nothing to provision.
    """
    workspace = inputs.workspace
    template: Manifest = {
        "metadata": {"labels": node_labels(inputs)},
        "spec": {
            "nodeClassRef": node_class(inputs),
            "requirements": [
                requirement("node.kubernetes.io/instance-type", *inputs.instance_types),
                requirement("kubernetes.io/os", "linux"),
                *offering(inputs),
            ],
            "expireAfter": NEVER,
            **taints(inputs),
            **notice(inputs),
        },
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        # Cluster-scoped, so a Workspace cannot own it: the finalizer deletes it.
        "metadata": {
            "name": names.node_pool(workspace.metadata.namespace, workspace.metadata.name),
            "labels": child_labels(workspace),
        },
        "spec": {
            "template": template,
            "disruption": {
                # Kept for a while: a retry or an upgrade finds images and weights still there.
                "consolidationPolicy": "WhenEmpty",
                "consolidateAfter": "10m",
                "budgets": [{"nodes": "0", "reasons": ["Drifted"]}, {"nodes": "100%", "reasons": ["Empty"]}],
            },
            # KubeRay upgrades by a second cluster beside the first, so twice what it may need must be allowed, and no more.
            "limits": {"nodes": str(2 * _machines(inputs))},
        },
    }


def _machines(inputs: NodeInputs) -> int:
    return most_machines(inputs) if isinstance(inputs, ServingInputs) else inputs.plan.nodes
