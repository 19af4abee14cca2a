"""The Service that people call: the Workspace's name, port 80.

During an upgrade two Ray clusters carry the Workspace's labels, and the head of the second says that it serves before
its model is loaded. So the Service names the cluster that KubeRay has made the active one, and moves when that does; the
old one goes a minute later.
"""

from __future__ import annotations

from kaito_ray.api import names
from kaito_ray.api.rules.annotations import load_balancer
from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_meta


def service(workspace: Workspace, ray_cluster: str | None = None) -> Manifest:
    """Return the Service; `ray_cluster` is the active one, absent before the first is.

    Ray's own ports (6379, 8265) are deliberately not on it.
    """
    name = workspace.metadata.name
    active = {"ray.io/cluster": ray_cluster} if ray_cluster else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_meta(workspace, name),
        "spec": {
            "type": "LoadBalancer" if load_balancer(workspace) else "ClusterIP",
            # KubeRay sets ray.io/serve on pods that hold a replica, once they answer.
            "selector": {names.WORKSPACE_LABEL: name, "ray.io/serve": "true", **active},
            "ports": [{"name": "http", "port": names.SERVICE_PORT, "targetPort": "serve", "protocol": "TCP"}],
        },
    }
