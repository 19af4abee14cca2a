"""Who may reach the Ray pods of a Workspace.

The model is for the Workspace's namespace, or for everybody who brings a key where there are keys. Ray's own ports are for
Ray: its pods among themselves, and the two operators that ask its dashboard. Where the network does not enforce policies,
Ray's token and the API keys still guard what they guard.

Policies add up, so whoever wants to let in more (a gateway, Prometheus) writes another one beside this.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_meta, pod_labels

_OPERATORS: Final = (
    # KubeRay asks whether Serve answers, and sends it the Serve config or the job.
    {"app.kubernetes.io/name": "kuberay-operator"},
    # We ask for adapters and for the log of a job.
    {"app.kubernetes.io/name": "kaito-ray", "app.kubernetes.io/component": "operator"},
)
"""Labels of the operators' pods, as their charts set them, in whatever namespace they are installed."""


def network_policy(workspace: Workspace) -> Manifest:
    """Return the NetworkPolicy: what may come in. What goes out (hub, registries, data) is not limited."""
    among_themselves: Manifest = {"from": [{"podSelector": {"matchLabels": pod_labels(workspace)}}]}
    operators: Manifest = {
        "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": dict(labels)}} for labels in _OPERATORS],
        "ports": [_port(names.DASHBOARD_PORT), *([_port(names.SERVE_PORT)] if workspace.inference else [])],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_meta(workspace, workspace.metadata.name),
        "spec": {
            "podSelector": {"matchLabels": pod_labels(workspace)},
            "policyTypes": ["Ingress"],
            "ingress": [among_themselves, operators, *_callers(workspace)],
        },
    }


def _callers(workspace: Workspace) -> list[Manifest]:
    """Return who may call the model: without keys the pods of its namespace, with keys anybody, load balancers too."""
    if workspace.inference is None:
        return []
    rule: Manifest = {"ports": [_port(names.SERVE_PORT)]}
    return [rule if workspace.inference.api_keys_secret else {"from": [{"podSelector": {}}], **rule}]


def _port(number: int) -> Manifest:
    return {"protocol": "TCP", "port": number}
