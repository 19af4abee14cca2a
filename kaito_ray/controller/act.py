"""Carry out what was decided; the only writes to children."""

from __future__ import annotations

import logging
from typing import Literal

from kaito_ray.controller.decide import Action, Create, Delete, Replace
from kaito_ray.kube.cluster import WORKSPACES, Cluster, Manifest

log = logging.getLogger(__name__)


async def act(cluster: Cluster, steps: tuple[Action, ...], workspace: Manifest) -> Manifest:
    """Do the steps in order; return the Workspace as it is stored after them.

    Raises:
        errors.Conflict: somebody was faster; read and decide again.
        errors.UserError: the API server refused one, for example a quota or a missing CRD.
    """
    for step in steps:
        match step:
            case Create(resource, manifest):
                await cluster.create(resource, manifest)
            case Replace(resource, manifest):
                stored = await cluster.replace(resource, manifest)
                workspace = stored if resource == WORKSPACES else workspace
            case Delete(resource, name, namespace, uid, orphan):
                propagation: Literal["Orphan", "Background"] = "Orphan" if orphan else "Background"
                await cluster.delete(resource, name, namespace, uid=uid, propagation=propagation)
        log.info("%s done", type(step).__name__.lower(), extra={"kind": step.resource.kind, "object": _name(step)})
    return workspace


def _name(step: Action) -> str:
    return step.name if isinstance(step, Delete) else str(step.manifest["metadata"]["name"])
