"""A Workspace with a pod of its own: what should exist, and what is said of it. Pure."""

from __future__ import annotations

import json
from typing import Any

from kaito_ray.api import conditions as c
from kaito_ray.api import names
from kaito_ray.api.status import Condition, WorkspaceStatus
from kaito_ray.controller.announce import of_inference, of_nodes
from kaito_ray.controller.decide import Action, Create, Replace
from kaito_ray.controller.desired import annotated, pinned, stamped
from kaito_ray.controller.judgement import accepted_mark
from kaito_ray.controller.nodes import machines_condition, nodes_condition, used_nodes
from kaito_ray.controller.observe import Child, Observed
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.status import status_of
from kaito_ray.controller.template_progress import serving_of, upgrade_of
from kaito_ray.kube import events
from kaito_ray.kube.cluster import DEPLOYMENTS, NODE_POOLS, SERVICES, Manifest
from kaito_ray.kube.events import Note
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.template import TemplateInputs, deployment, template_service


def desired_template(inputs: TemplateInputs, seen: Observed) -> dict[Child, Manifest]:
    """Return every child as it should be, in the order in which they are made."""
    meta = inputs.workspace.metadata
    wanted: dict[Child, Manifest] = {}
    if inputs.provisioner == "karpenter":
        wanted[NODE_POOLS, names.node_pool(meta.namespace, meta.name)] = stamped(nodepool(inputs))
    wanted[SERVICES, meta.name] = stamped(template_service(inputs))
    serving = pinned(_selected_as_before(deployment(inputs), seen.deployment), seen.deployment, _said(inputs))
    wanted[DEPLOYMENTS, meta.name] = annotated(serving, accepted_mark(seen.manifest))
    return wanted


def template_status(seen: Observed, inputs: TemplateInputs, settings: Settings, *, now: str) -> WorkspaceStatus:
    """Return the status; `now` is RFC 3339."""
    provisioned = settings.provisions
    used = used_nodes(seen, provisioned)
    nodes: list[Condition] = [nodes_condition(seen, inputs.plan, used)]
    if provisioned:
        nodes.insert(0, machines_condition(seen, inputs.plan.nodes, inputs.instance_types))
    before = seen.workspace.status.condition(c.INFERENCE_READY)
    serving = serving_of(seen, was_ready=before is not None and before.status == "True")
    upgrade = upgrade_of(seen) if serving.ready else None
    return status_of(
        seen, settings, nodes=nodes, serving=serving, upgrade=upgrade, now=now, used=used, needed=inputs.plan.nodes
    )


def notes(old: WorkspaceStatus, new: WorkspaceStatus, steps: tuple[Action, ...]) -> tuple[Note, ...]:
    """Return the Events that the step deserves."""
    found = []
    for step in steps:
        if step.resource == DEPLOYMENTS and isinstance(step, Create | Replace):
            tell = events.serving_started if isinstance(step, Create) else events.serving_changed
            found.append(tell(f"Deployment {step.manifest['metadata']['name']}"))
    return (*found, *of_nodes(old, new), *of_inference(old, new, "the pod"))


def _selected_as_before(wanted: Manifest, live: Manifest | None) -> Manifest:
    """Return the Deployment with the selector that it has: KAITO's is another one, and none can be changed."""
    if live is None:
        return wanted
    spec, selector = wanted["spec"], live["spec"]["selector"]
    meta = spec["template"]["metadata"]
    labels = {**(selector.get("matchLabels") or {}), **meta["labels"]}
    template = {**spec["template"], "metadata": {**meta, "labels": labels}}
    return {**wanted, "spec": {**spec, "selector": selector, "template": template}}


def _said(inputs: TemplateInputs) -> str:
    """Return what a person said that the pods depend on, and nothing that this version of the operator chose."""
    workspace = inputs.workspace
    said: dict[str, Any] = {
        "template": inputs.template,
        "count": inputs.plan.nodes,
        "labels": workspace.resource.label_selector.as_labels(),
        "retry": workspace.metadata.annotations.get(names.RETRY_ANNOTATION),
    }
    return names.short_hash(json.dumps(said, sort_keys=True))
