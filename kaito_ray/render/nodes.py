"""What a new node is asked to be, in whichever form it is asked for: a NodePool or NodeClaims."""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.api.rules.resource import RESERVED_LABELS
from kaito_ray.render.inputs import Manifest, ServingInputs
from kaito_ray.render.meta import pod_labels
from kaito_ray.render.rayjob import TuningInputs
from kaito_ray.render.raypod import GRACE_S
from kaito_ray.render.template import TemplateInputs

NodeInputs = ServingInputs | TuningInputs | TemplateInputs

NEVER: Final = "Never"
"""`expireAfter`: left out it means 720 hours, after which the node is killed without asking."""


def node_labels(inputs: NodeInputs) -> dict[str, str]:
    """Return the labels of the node: the person's own, and the two that tie it to the Workspace."""
    own = inputs.workspace.resource.label_selector.as_labels()
    return {k: v for k, v in own.items() if k not in RESERVED_LABELS} | pod_labels(inputs.workspace)


def node_class(inputs: NodeInputs) -> dict[str, str]:
    """Return the reference to the NodeClass; its name may be chosen by KAITO's annotation.

    Raises:
        ValueError: nodes are the person's own (`byo`), so there is nothing to provision.
    """
    if (ref := inputs.node_class) is None:
        raise ValueError("a new node needs a NodeClass")
    name = inputs.workspace.metadata.annotations.get(names.NODE_CLASS_ANNOTATION, ref.name)
    return {"group": ref.group, "kind": ref.kind, "name": name}


def taints(inputs: NodeInputs) -> Manifest:
    """Return KAITO's taint of GPU nodes, as a field of the spec; nothing for others."""
    if inputs.plan.machine.device != "cuda":
        return {}
    return {"taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]}


def notice(inputs: NodeInputs) -> Manifest:
    """Return how long a machine that is taken back is drained for, as a field of the spec; nothing where none ever is.

    Without it, pods that must not be disrupted are not told before the machine is switched off.
    """
    return {"terminationGracePeriod": f"{GRACE_S}s"} if "spot" in inputs.workspace.resource.capacity_types else {}


def requirement(key: str, *values: str) -> Manifest:
    """Return one requirement: the label has one of the values."""
    return {"key": key, "operator": "In", "values": list(values)}


def offering(inputs: NodeInputs) -> list[Manifest]:
    """Return how and where machines are bought."""
    resource = inputs.workspace.resource
    wanted = [requirement("karpenter.sh/capacity-type", *(resource.capacity_types or ("on-demand",)))]
    if resource.zones:
        wanted.append(requirement("topology.kubernetes.io/zone", *resource.zones))
    elif inputs.regional:
        wanted.append(requirement("karpenter.azure.com/placement-scope", "regional"))
    return wanted
