"""A Ray cluster that grows by machines: a head that costs none, and workers that come when Serve asks for them.

The head stands on whatever machine the cluster has: it must outlive the last GPU machine, for it holds the requests
that wake the Workspace up.
"""

from __future__ import annotations

from typing import Any, Final

from kaito_ray.api import names
from kaito_ray.render.inputs import Manifest, Redis, ServingInputs
from kaito_ray.render.raypod import GRACE_S, head_start_params, ray_cpus

GROUP: Final = "gpu"
"""Name of the group of workers."""
_MOST_GROUPS: Final = 1000
"""A bound that nobody reaches: Serve's `max_replicas` and the NodePool's limit are the real ones, and can be edited."""
_IDLE_S: Final = 60
"""How long a worker without a replica stays; Serve empties the worker's proxy first, which takes half of that."""
_LEAVE: Final = (
    "timeout 15 ray drain-node --reason=DRAIN_NODE_REASON_PREEMPTION --reason-message='the pod is to end'"
    f" --deadline-remaining-seconds={GRACE_S - 10};"
    " while grep -qs '^ray::ServeReplica' /proc/[0-9]*/cmdline; do sleep 1; done"
)
"""What a worker does before it ends: Serve is told, sends requests elsewhere, and lets replicas finish what they began."""
_HEAD: Final = {"requests": {"cpu": "750m", "memory": "1536Mi"}, "limits": {"memory": "4Gi"}}
_AUTOSCALER: Final = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "1Gi"}}
"""With the head's requests 1 CPU and 2 GiB: what a Workspace costs that is scaled to zero."""


def autoscaler() -> Manifest:
    """Return the options of the Ray cluster by which workers come and go."""
    return {
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            # Only where it is said does KubeRay prepare the pods for it.
            "version": "v2",
            "idleTimeoutSeconds": _IDLE_S,
            "resources": _AUTOSCALER,
        },
    }


def fault_tolerance(redis: Redis | None) -> Manifest:
    """Return what makes workers outlive their head: Ray's state in a Redis."""
    if redis is None:
        return {}
    options: Manifest = {"redisAddress": redis.address}
    if redis.secret:
        reference = {"name": redis.secret, "key": redis.key}
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return {"gcsFaultToleranceOptions": options}


def head_group(inputs: ServingInputs, pod: Manifest) -> Manifest:
    """Return the head, the pod that the engine would run in, without its machine."""
    container = {**pod["spec"]["containers"][0], "resources": _HEAD}
    spec: dict[str, Any] = {
        **pod["spec"],
        "containers": [container],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": _not_on_machines_that_go()},
        # KubeRay gives the head a service account of the autoscaler's, with rights on this one Ray cluster.
        "automountServiceAccountToken": True,
        "restartPolicy": "Never",
    }
    del spec["tolerations"]
    return {
        "rayStartParams": {**head_start_params(inputs.plan.machine), "num-cpus": "0"},
        "template": {**pod, "spec": spec},
    }


def worker_group(inputs: ServingInputs, pod: Manifest) -> Manifest:
    """Return the group of which each member is the machines of one plan."""
    scaling = inputs.inference.autoscaling
    first = max(scaling.min_replicas, 1) if scaling else 1
    leave = {"preStop": {"exec": {"command": ["bash", "-c", _LEAVE]}}}
    container = {**pod["spec"]["containers"][0], "lifecycle": leave}
    return {
        "groupName": GROUP,
        "replicas": first,
        "minReplicas": 0,
        "maxReplicas": _MOST_GROUPS,
        "numOfHosts": inputs.plan.nodes,
        "rayStartParams": {"num-cpus": str(ray_cpus(inputs.plan.machine))},
        # The autoscaler replaces a pod that ended; a restart in place would be a node that it does not know.
        "template": {**pod, "spec": {**pod["spec"], "containers": [container], "restartPolicy": "Never"}},
    }


def _not_on_machines_that_go() -> Manifest:
    own = {"key": names.WORKSPACE_LABEL, "operator": "DoesNotExist"}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [own]}]}}
