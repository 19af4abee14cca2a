"""Workspace + plan -> RayService.

Equal inputs give equal bytes: KubeRay hashes `rayClusterConfig`, lists in order, and any difference starts a second
cluster beside the first, with GPUs of its own. So lists are written in a fixed order, and nothing here may depend on
time or chance.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.api import names
from kaito_ray.api.app_args import DRAIN_S, KEYS_MOUNT, REGISTRY_MOUNT
from kaito_ray.api.workspace import Workspace
from kaito_ray.render import adapters, affinity, elastic, secrets
from kaito_ray.render.inputs import RAY_VERSION, Manifest, ServingInputs
from kaito_ray.render.meta import child_meta
from kaito_ray.render.raypod import (
    CACHE_MOUNT,
    GRACE_S,
    RAY_PORTS,
    container,
    head_start_params,
    hub_access,
    mebibytes,
    pod,
    ray_cpus,
    requested_cpus,
)
from kaito_ray.render.scaling import by_machines
from kaito_ray.render.serve_config import serve_config

PORTS: Final = (*RAY_PORTS, ("serve", names.SERVE_PORT))
PROXY: Final = {
    # Both are needed for HAProxy to reach the replica in one hop.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
    # With every replica that comes or goes HAProxy is started anew, and the old process is killed with the answers that
    # it still carries, by default after 2 minutes.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(DRAIN_S),
    # A replica that is to go stays reachable until every HAProxy knows: 30 s by default, for load balancers outside.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "10",
    # A request whose replica dies before the first byte goes elsewhere: by default only one that was not sent. HAProxy sends
    # again what its buffer holds, so longer requests are not. The second retry is for a lone replica: the first finds its
    # port closed, which marks it as down, and the next waits in Serve's own proxy for the replica that follows.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "2",
    "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 * 2**10),
    # Of silence where the client has the word, amid headers too; by default an hour. Who waits for an answer, or for more
    # of one, may wait for as long as that takes.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
}
"""Environment of Serve's HAProxy: no answer is lost when replicas come, go or die, and nobody keeps it busy for nothing."""
_GPU_MEMORY_SHARE: Final = 0.75
"""Of a GPU machine's nominal memory: Karpenter, the kubelet and DaemonSets keep up to a tenth of it."""
_MEMORY_LIMIT_SHARE: Final = 0.9


def rayservice(inputs: ServingInputs) -> Manifest:
    """Return the RayService that serves the Workspace as planned."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": child_meta(inputs.workspace, names.ray_service(inputs.workspace.metadata.name)),
        "spec": {
            "serveConfigV2": serve_config(inputs),
            "upgradeStrategy": {"type": "NewCluster"},
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": "token"},
                **_groups(inputs),
            },
        },
    }


def _groups(inputs: ServingInputs) -> Manifest:
    if not by_machines(inputs):
        return {"headGroupSpec": _head_group(inputs), "workerGroupSpecs": _worker_groups(inputs)}
    return {
        **elastic.autoscaler(),
        **elastic.fault_tolerance(inputs.redis),
        "headGroupSpec": elastic.head_group(inputs, _pod(inputs)),
        "workerGroupSpecs": [elastic.worker_group(inputs, _pod(inputs))],
    }


def _head_group(inputs: ServingInputs) -> Manifest:
    """The head pod. With one machine the engine runs in it: a head must not cost another machine."""
    return {
        "rayStartParams": head_start_params(inputs.plan.machine),
        "template": _pod(inputs),
    }


def _worker_groups(inputs: ServingInputs) -> list[Manifest]:
    """The machines beside the head's, one pod on each, as one group that lives and dies together."""
    others = inputs.plan.nodes - 1
    if others == 0:
        return []
    group: Manifest = {
        "groupName": elastic.GROUP,
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": 1,
        "numOfHosts": others,
        "rayStartParams": {"num-cpus": str(ray_cpus(inputs.plan.machine))},
        "template": _pod(inputs),
    }
    return [group]


def _pod(inputs: ServingInputs) -> Manifest:
    volumes = [
        {"name": "cache", "emptyDir": {}},
        *secrets.volumes(inputs.workspace),
        *adapters.volumes(inputs.inference),
    ]
    return pod(inputs.workspace, inputs.provisioner, _container(inputs), volumes, grace_s=GRACE_S)


def _container(inputs: ServingInputs) -> Manifest:
    return container(
        inputs.image,
        ports=PORTS,
        env=[
            *({"name": name, "value": value} for name, value in PROXY.items()),
            *affinity.environment(inputs),
            *_retry(inputs.workspace),
            *hub_access(inputs.workspace, inputs.hub_endpoint),
        ],
        resources=_resources(inputs),
        mounts=[
            {"name": "cache", "mountPath": CACHE_MOUNT},
            {"name": "keys", "mountPath": KEYS_MOUNT, "readOnly": True},
            {"name": "registry", "mountPath": REGISTRY_MOUNT, "readOnly": True},
            *adapters.mounts(inputs.inference),
        ],
    )


def _retry(workspace: Workspace) -> list[Manifest]:
    """Return what makes KubeRay start new pods: a value that nobody reads."""
    asked = workspace.metadata.annotations.get(names.RETRY_ANNOTATION)
    return [{"name": "KAITO_RAY_RETRY", "value": asked}] if asked else []


def _resources(inputs: ServingInputs) -> Manifest:
    """Requests that one machine can meet beside its own daemons, and limits; one pod takes one machine's GPUs."""
    plan, scaling = inputs.plan, inputs.inference.autoscaling
    machine, memory = plan.machine, plan.memory
    # An image's packed layer lies beside what is taken out of it.
    copies = 2.2 if plan.preset.source.image else 1.2
    requests: dict[str, str] = {"ephemeral-storage": mebibytes(plan.preset.weights_bytes * copies + 10 * 2**30)}
    limits: dict[str, str] = {}
    if machine.cpus:
        requests |= requested_cpus(machine)
        limits["cpu"] = str(ray_cpus(machine))
    if machine.device == "cuda":
        limits[machine.gpu_resource] = requests[machine.gpu_resource] = str(machine.gpu_count)
        if machine.memory_bytes:
            limits["memory"] = requests["memory"] = mebibytes(machine.memory_bytes * _GPU_MEMORY_SHARE)
    elif machine.memory_bytes:
        needed = memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes
        requests["memory"] = mebibytes(needed * (scaling.max_replicas if scaling else 1))
        limits["memory"] = mebibytes(machine.memory_bytes * _MEMORY_LIMIT_SHARE)
    return {"requests": dict(sorted(requests.items())), "limits": dict(sorted(limits.items()))}
