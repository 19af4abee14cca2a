"""A Workspace with a pod of its own, observed -> what its Deployment is rendered from, or why not. Pure."""

from __future__ import annotations

from kaito_ray.controller.observe import Observed
from kaito_ray.controller.offers import offer
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import InvalidWorkspace, UserError
from kaito_ray.render.template import Machines, TemplateInputs


class NoContainerRuntime(UserError):
    """On one machine Ray's processes stand for pods, and nothing runs a container."""

    reason = "NoContainerRuntime"


def plan_template(seen: Observed, settings: Settings) -> TemplateInputs:
    """Return what the manifests are rendered from: the machines that were named, one for each replica.

    Raises:
        UserError: it cannot be carried out as it is, or not here.
    """
    workspace = seen.workspace
    if settings.provider == "local":
        raise NoContainerRuntime(
            "inference.template: no container can be run on this machine, only Ray; apply it to a cluster, "
            "or serve a model here by inference.preset"
        )
    resource = workspace.resource
    if resource.partition is not None:
        raise InvalidWorkspace(
            "resource.partition", "say it in the resources of the template's containers; remove it here"
        )
    if settings.provisioner != "byo" and not (resource.instance_type or resource.instance_types):
        raise InvalidWorkspace(
            "resource.instanceType", "name a machine: what a pod of your own needs is not known to the planner"
        )
    machines = offer(resource, seen.nodes, settings).machines
    return TemplateInputs(
        workspace=workspace,
        plan=Machines(machine=machines[0], nodes=resource.count),
        provisioner=settings.provisioner,
        node_class=settings.node_class,
        instance_types=tuple(machine.instance_type for machine in machines),
        regional=settings.provider == "azure",
    )
