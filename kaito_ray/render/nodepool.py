"""The NodePool of a Workspace: Ray's pods ask for machines, Karpenter makes them, and takes them back when empty."""

from __future__ import annotations

from kaito_ray.api import names
from kaito_ray.api.rules.resource import RESERVED_LABELS
from kaito_ray.render.inputs import Manifest, ServingInputs
from kaito_ray.render.meta import child_labels, pod_labels
from kaito_ray.render.rayjob import TuningInputs
from kaito_ray.render.template import TemplateInputs


def nodepool(inputs: ServingInputs | TuningInputs | TemplateInputs) -> Manifest:
    """Return the NodePool.

    Raises:
        ValueError: nodes are the person's own (`byo`), so there is nothing to provision.
    """
    workspace, node_class = inputs.workspace, inputs.node_class
    if node_class is None:
        raise ValueError("a NodePool needs a NodeClass")
    name = workspace.metadata.annotations.get(names.NODE_CLASS_ANNOTATION, node_class.name)
    own = workspace.resource.label_selector.as_labels()
    template: Manifest = {
        "metadata": {
            "labels": {k: v for k, v in own.items() if k not in RESERVED_LABELS} | pod_labels(workspace),
        },
        "spec": {
            "nodeClassRef": {"group": node_class.group, "kind": node_class.kind, "name": name},
            "requirements": _requirements(inputs),
            # Left out it means 720 hours, after which the node is killed without asking.
            "expireAfter": "Never",
        },
    }
    if inputs.plan.machine.device == "cuda":
        template["spec"]["taints"] = [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
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
            # KubeRay upgrades by a second cluster beside the first, so twice the plan must be allowed, and no more.
            "limits": {"nodes": str(2 * inputs.plan.nodes)},
        },
    }


def _requirements(inputs: ServingInputs | TuningInputs | TemplateInputs) -> list[Manifest]:
    resource = inputs.workspace.resource
    wanted = [
        ("node.kubernetes.io/instance-type", inputs.instance_types),
        ("kubernetes.io/os", ("linux",)),
        ("karpenter.sh/capacity-type", resource.capacity_types or ("on-demand",)),
    ]
    if resource.zones:
        wanted.append(("topology.kubernetes.io/zone", resource.zones))
    elif inputs.regional:
        wanted.append(("karpenter.azure.com/placement-scope", ("regional",)))
    return [{"key": key, "operator": "In", "values": list(values)} for key, values in wanted]
