"""A NodeClaim: one machine of a Workspace, asked for by the operator itself.

KAITO's way with gpu-provisioner on Azure, which knows no NodePool; Karpenter takes such claims too. Nothing in the cluster
makes another where one is given up, so the operator does (`kaito_ray/controller/claims.py`). For that it must learn how one
ended: a finalizer keeps a claim that is deleted until the operator has seen it, and its labels say which try it was.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.estimator.tuning import TuningPlan
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_labels
from kaito_ray.render.nodes import NEVER, NodeInputs, node_class, node_labels, notice, offering, requirement, taints
from kaito_ray.render.raypod import mebibytes

NO_POOL: Final = "kaito"
"""KAITO's name of a NodePool that does not exist: so no controller of Karpenter's consolidates or drifts the node."""
GPU_PROVISIONER: Final = "kaito.sh"
"""Group of gpu-provisioner's NodeClass."""

_IMAGES_BYTES: Final = 100 * 2**30
_LEAST_DISK_BYTES: Final = 300 * 2**30


def nodeclaim(inputs: NodeInputs, serial: int, tries: int) -> Manifest:
    """Return the claim.

    `serial` tells the claims of a Workspace apart; `tries` is how many failed before it, one after the other, and
    chooses the instance type.

    Raises:
        ValueError: nodes are the person's own (`byo`), so there is nothing to provision.
    """
    workspace, ref = inputs.workspace, node_class(inputs)
    instance_type = type_of(tries, inputs.instance_types)
    counters = {names.CLAIM_SERIAL_LABEL: str(serial), names.CLAIM_TRIES_LABEL: str(tries)}
    pool = "karpenter.sh/nodepool"
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        # Cluster-scoped, so a Workspace cannot own it: the finalizer of the Workspace deletes it.
        "metadata": {
            "name": names.node_claim(workspace.metadata.namespace, workspace.metadata.name, serial),
            "labels": {pool: NO_POOL, **node_labels(inputs), **child_labels(workspace), **counters},
            "annotations": {"karpenter.sh/do-not-disrupt": "true"},
            "finalizers": [names.CLAIM_FINALIZER],
        },
        "spec": {
            "nodeClassRef": ref,
            "requirements": [
                requirement(pool, NO_POOL),
                requirement("node.kubernetes.io/instance-type", instance_type),
                requirement("kubernetes.io/os", "linux"),
                *_offering(inputs, ref["group"], instance_type),
            ],
            **_resources(inputs, ref["group"]),
            "expireAfter": NEVER,
            **taints(inputs),
            **notice(inputs),
        },
    }


def type_of(tries: int, instance_types: tuple[str, ...]) -> str:
    """Return the instance type of a try: one after the other, and from the start again."""
    return instance_types[tries % len(instance_types)]


def _offering(inputs: NodeInputs, group: str, instance_type: str) -> list[Manifest]:
    if group == GPU_PROVISIONER:  # it buys on demand, where the cluster is, and reads nothing else
        return [requirement("karpenter.azure.com/sku-name", instance_type)]
    return offering(inputs)


def _resources(inputs: NodeInputs, group: str) -> Manifest:
    """Return the field `resources`: for gpu-provisioner the size of the disk, which it insists on; else the GPUs."""
    if group == GPU_PROVISIONER:
        return {"resources": {"requests": {"storage": mebibytes(max(_LEAST_DISK_BYTES, _disk_bytes(inputs)))}}}
    if inputs.plan.machine.device != "cuda":
        return {}
    # Karpenter calls the node initialised only after the device plugin has registered what is asked for here.
    return {"resources": {"requests": {"nvidia.com/gpu": str(inputs.plan.machine.gpu_count)}}}


def _disk_bytes(inputs: NodeInputs) -> float:
    """Return the bytes of weights, with room to unpack, and images; of a pod of one's own nothing is known."""
    plan = inputs.plan
    weights = plan.preset.weights_bytes if isinstance(plan, ServingPlan | TuningPlan) else 0
    return weights * 1.2 + _IMAGES_BYTES
