"""The Service that people call: the Workspace's name, port 80.

It selects pods by the Workspace, not by the Ray cluster, so it follows when KubeRay swaps one cluster for another.
"""

from __future__ import annotations

from kaito_ray.api import names
from kaito_ray.api.rules.annotations import load_balancer
from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_meta


def service(workspace: Workspace) -> Manifest:
    """Return the Service. Ray's own ports (6379, 8265) are deliberately not on it."""
    name = workspace.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_meta(workspace, name),
        "spec": {
            "type": "LoadBalancer" if load_balancer(workspace) else "ClusterIP",
            # KubeRay sets ray.io/serve on pods that hold a replica, once they answer.
            "selector": {names.WORKSPACE_LABEL: name, "ray.io/serve": "true"},
            "ports": [{"name": "http", "port": names.SERVICE_PORT, "targetPort": "serve", "protocol": "TCP"}],
        },
    }
