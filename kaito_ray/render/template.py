"""`inference.template` -> a Deployment and a Service: a pod of the person's own on machines that are provided for it.

As in KAITO, what runs in the pod is the person's business: only labels, the choice of nodes and their taints are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from kaito_ray.api import names
from kaito_ray.api.rules.annotations import load_balancer
from kaito_ray.api.workspace import Workspace
from kaito_ray.catalog.gpus import Machine
from kaito_ray.render.inputs import Manifest, NodeClassRef, Provisioner
from kaito_ray.render.meta import child_meta, pod_labels
from kaito_ray.render.raypod import TOLERATIONS, node_selector

USUAL_PORT: Final = 5000
"""KAITO's; for a pod that declares none."""
PROGRESS_DEADLINE_S: Final = 30 * 60
"""Images with weights in them are large, and Kubernetes' own ten minutes are soon over."""

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True)
class Machines:
    """What a pod of one's own is planned as: nothing of it is known but where it goes."""

    machine: Machine
    nodes: int
    """Replicas, each on a machine of its own."""


@dataclass(frozen=True)
class TemplateInputs:
    """One Workspace with a pod of its own: everything that its manifests depend on."""

    workspace: Workspace
    plan: Machines
    provisioner: Provisioner = "karpenter"
    """Who makes nodes."""
    node_class: NodeClassRef | None = None
    """Of new nodes; absent with `byo`."""
    instance_types: tuple[str, ...] = ()
    """Instance types that may be taken, in order of preference."""
    regional: bool = False
    """Azure: GPU sizes are often obtainable only without a zone."""

    @property
    def template(self) -> Mapping[str, Any]:
        """The pod template as it was written.

        Raises:
            ValueError: the Workspace has none.
        """
        if self.workspace.inference is None or self.workspace.inference.template is None:
            raise ValueError(f"Workspace {self.workspace.metadata.name} has no template")
        return self.workspace.inference.template


def deployment(inputs: TemplateInputs) -> Manifest:
    """Return the Deployment."""
    name = inputs.workspace.metadata.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_meta(inputs.workspace, name),
        "spec": {
            "replicas": inputs.plan.nodes,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_S,
            "selector": {"matchLabels": pod_labels(inputs.workspace)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": _surge(inputs)},
            "template": _pod(inputs),
        },
    }


def template_service(inputs: TemplateInputs) -> Manifest:
    """Return the Service that people call: port 80 to the first port that the pod declares."""
    ports = [port for container in _containers(inputs) for port in container.get("ports") or ()]
    target = ports[0].get("containerPort", USUAL_PORT) if ports else USUAL_PORT
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_meta(inputs.workspace, inputs.workspace.metadata.name),
        "spec": {
            "type": "LoadBalancer" if load_balancer(inputs.workspace) else "ClusterIP",
            "selector": pod_labels(inputs.workspace),
            "ports": [{"name": "http", "port": names.SERVICE_PORT, "targetPort": target, "protocol": "TCP"}],
        },
    }


def _surge(inputs: TemplateInputs) -> Manifest:
    """Return how a new pod takes over: on one more machine where Karpenter follows pods, else one goes before the next."""
    more = int(inputs.provisioner == "karpenter")
    return {"maxSurge": more, "maxUnavailable": 1 - more}


def _pod(inputs: TemplateInputs) -> Manifest:
    template = deepcopy(dict(inputs.template))
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    retry = inputs.workspace.metadata.annotations.get(names.RETRY_ANNOTATION)
    annotations = {"karpenter.sh/do-not-disrupt": "true", **(meta.get("annotations") or {})}
    if retry:
        annotations[names.RETRY_ANNOTATION] = retry
    labels = {**(meta.get("labels") or {}), **pod_labels(inputs.workspace)}
    tolerated = spec.get("tolerations") or []
    return {
        # Metadata beyond these two has no meaning in a template.
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {
            **spec,
            "nodeSelector": {**(spec.get("nodeSelector") or {}), **node_selector(inputs.workspace, inputs.provisioner)},
            "tolerations": [*tolerated, *(one for one in TOLERATIONS if one not in tolerated)],
            "affinity": _apart(spec.get("affinity") or {}, pod_labels(inputs.workspace)),
        },
    }


def _apart(affinity: Manifest, labels: dict[str, str]) -> Manifest:
    """Return the affinity with one more rule: as `resource.count` is in machines, no two replicas share one."""
    mine = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    others = affinity.get("podAntiAffinity") or {}
    required = [*(others.get(_REQUIRED) or ()), mine]
    return {**affinity, "podAntiAffinity": {**others, _REQUIRED: required}}


def _containers(inputs: TemplateInputs) -> list[Mapping[str, Any]]:
    return list((inputs.template.get("spec") or {}).get("containers") or ())
