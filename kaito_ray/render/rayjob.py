"""Workspace + plan -> RayJob for tuning, and the claim that its checkpoints are kept on.

One pod is head and worker, as in serving: the head must not cost another machine. The job's checkpoints lie on a claim
of the Workspace's, so a job that KubeRay starts again, in a new cluster and perhaps on another machine, goes on where
it was. The cluster ends soon after the job, and with it the machines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kaito_ray.api import names
from kaito_ray.api.app_args import REGISTRY_MOUNT
from kaito_ray.api.tuning_args import (
    ALLOW_VARIABLE,
    ARGS_VARIABLE,
    CHECK_ONLY,
    DATA_MOUNT,
    ENTRYPOINT,
    OUTPUT_MOUNT,
    PULL_MOUNT,
    WORK_MOUNT,
    TuningArgs,
    TuningInput,
    TuningOutput,
)
from kaito_ray.api.workspace import TuningSpec, Workspace
from kaito_ray.estimator.tuning import TuningOptions, TuningPlan
from kaito_ray.render.inputs import RAY_VERSION, Manifest, NodeClassRef, Provisioner
from kaito_ray.render.meta import child_meta
from kaito_ray.render.raypod import (
    CACHE_MOUNT,
    RAY_PORTS,
    container,
    head_start_params,
    hub_access,
    mebibytes,
    pod,
    pod_anywhere,
    requested_cpus,
)
from kaito_ray.render.training_config import training_argument

_RESTARTS: Final = 1
"""Of the whole job, from its last checkpoint: a lost machine is worth one, a wrong data set is not worth many."""
_CLUSTER_KEPT_S: Final = 60
"""How long the cluster outlives the job, for its last lines to be read."""
_CHECK_RESOURCES: Final = {"requests": {"cpu": "1", "memory": "2Gi"}}
"""Ray's head, and one file of data at a time."""
_CLAIM: Final = "32Gi"
"""Downloaded data, two checkpoints and the adapter."""


@dataclass(frozen=True)
class TuningInputs:
    """One tuning Workspace with its plan: everything that the manifests depend on."""

    workspace: Workspace
    plan: TuningPlan
    image: str
    """Worker image."""
    options: TuningOptions = field(default_factory=TuningOptions)
    """What the plan was made for."""
    config: dict[str, Any] = field(default_factory=dict)
    """Sections of the Workspace's `training_config.yaml`."""
    hub_endpoint: str | None = None
    """Mirror of the model hub; None for the hub itself."""
    provisioner: Provisioner = "karpenter"
    """Who makes nodes."""
    node_class: NodeClassRef | None = None
    """Of new nodes; absent with `byo`."""
    instance_types: tuple[str, ...] = ()
    """Instance types that the plan holds for, in order of preference."""
    regional: bool = False
    """Azure: GPU sizes are often obtainable only without a zone."""
    data_allow: tuple[str, ...] = ()
    """Hosts and networks that data may come from though they are private."""

    @property
    def tuning(self) -> TuningSpec:
        """Return what the Workspace says about tuning."""
        if self.workspace.tuning is None:
            raise ValueError(f"Workspace {self.workspace.metadata.name} does not tune")
        return self.workspace.tuning


def rayjob(inputs: TuningInputs) -> Manifest:
    """Return the RayJob that tunes as the Workspace says."""
    return _job(
        inputs,
        names.ray_job(inputs.workspace.metadata.name),
        ENTRYPOINT,
        head={"rayStartParams": head_start_params(inputs.plan.machine), "template": _pod(inputs)},
        restarts=_RESTARTS,
    )


def data_check(inputs: TuningInputs) -> Manifest:
    """Return the RayJob that looks at the data on any node, so that bad data never brings a GPU.

    It is a job like the other one: the same image reads the same files, and says in the same words what is wrong.
    """
    wanted = ("cache", "data", "pull-")
    volumes = [(mount, volume) for mount, volume in _volumes(inputs) if volume["name"].startswith(wanted)]
    ray = container(
        inputs.image,
        ports=RAY_PORTS,
        env=_env(inputs),
        resources=_CHECK_RESOURCES,
        mounts=[mount for mount, _ in volumes],
    )
    return _job(
        inputs,
        names.data_check(inputs.workspace.metadata.name),
        f"{ENTRYPOINT} {CHECK_ONLY}",
        head={
            "rayStartParams": {**head_start_params(inputs.plan.machine), "num-cpus": "1"},
            "template": pod_anywhere(inputs.workspace, ray, [volume for _, volume in volumes]),
        },
        restarts=0,
    )


def _job(inputs: TuningInputs, name: str, entrypoint: str, *, head: Manifest, restarts: int) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": child_meta(inputs.workspace, name),
        "spec": {
            "entrypoint": entrypoint,
            # KubeRay asks Ray itself; a submitter pod would pull the same large image on yet another node.
            "submissionMode": "HTTPMode",
            "backoffLimit": restarts,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": _CLUSTER_KEPT_S,
            "rayClusterSpec": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": "token"},
                "headGroupSpec": head,
            },
        },
    }


def claim(inputs: TuningInputs) -> Manifest:
    """Return the claim for checkpoints; it goes with the Workspace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": child_meta(inputs.workspace, names.tuning_claim(inputs.workspace.metadata.name)),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": _CLAIM}}},
    }


def tuning_args(inputs: TuningInputs) -> TuningArgs:
    """Return what the job is told."""
    spec, plan, meta = inputs.tuning, inputs.plan, inputs.workspace.metadata
    asked = spec.preset
    revision = asked.revision if asked else None
    source = plan.preset.source.model_copy(update={"revision": revision}) if revision else plan.preset.source
    return TuningArgs(
        workspace=meta.name,
        namespace=meta.namespace,
        preset=plan.preset.name,
        source=source,
        method=inputs.options.method,
        device=plan.machine.device,
        training_config=inputs.config,
        input=_input(spec),
        output=_output(inputs),
        credentials=REGISTRY_MOUNT if spec.output and spec.output.image_push_secret else None,
        workers=plan.workers,
        resume=spec.resume is not False,
        trust_remote_code=bool(asked and asked.trust_remote_code),
    )


def _input(spec: TuningSpec) -> TuningInput:
    if spec.input and spec.input.urls:
        return TuningInput(urls=spec.input.urls)
    if spec.input and spec.input.image:
        mounts = tuple(path for path, _ in _pull_mounts(spec))
        return TuningInput(image=spec.input.image, credentials=mounts)
    return TuningInput(directory=DATA_MOUNT)


def _pull_mounts(spec: TuningSpec) -> list[tuple[str, str]]:
    """Return where each Secret for the pull of the data is mounted, with its name."""
    secrets = spec.input.image_pull_secrets if spec.input and spec.input.image else ()
    return [(f"{PULL_MOUNT}/{index}", name) for index, name in enumerate(secrets)]


def _output(inputs: TuningInputs) -> TuningOutput:
    destination = inputs.tuning.output
    if destination and destination.image:
        return TuningOutput(image=destination.image)
    return TuningOutput(directory=_output_mount(inputs))


def _output_mount(inputs: TuningInputs) -> str:
    """Return where the volume for the adapter is mounted: where the config wants its results, as in KAITO."""
    return str(training_argument(inputs.config, "output_dir", OUTPUT_MOUNT))


def _pod(inputs: TuningInputs) -> Manifest:
    volumes = _volumes(inputs)
    ray = container(
        inputs.image,
        ports=RAY_PORTS,
        env=_env(inputs),
        resources=_resources(inputs.plan),
        mounts=[mount for mount, _ in volumes],
    )
    return pod(inputs.workspace, inputs.provisioner, ray, [volume for _, volume in volumes], grace_s=60)


def _env(inputs: TuningInputs) -> list[Manifest]:
    env: list[Manifest] = [{"name": ARGS_VARIABLE, "value": tuning_args(inputs).model_dump_json(by_alias=True)}]
    # A kubelet replaces $(NAME) in values, and a config may hold one.
    env[0]["value"] = env[0]["value"].replace("$(", "$$(")
    if inputs.data_allow:
        env.append({"name": ALLOW_VARIABLE, "value": ",".join(inputs.data_allow)})
    return [*env, *hub_access(inputs.workspace, inputs.hub_endpoint)]


def _volumes(inputs: TuningInputs) -> list[tuple[Manifest, Manifest]]:
    """Return mounts with their volumes."""
    spec = inputs.tuning
    claimed = {"persistentVolumeClaim": {"claimName": names.tuning_claim(inputs.workspace.metadata.name)}}
    found = [
        _volume("cache", CACHE_MOUNT, {"emptyDir": {}}),
        _volume("work", WORK_MOUNT, claimed),
    ]
    if spec.input and spec.input.volume_source:
        found.append(_volume("data", DATA_MOUNT, spec.input.volume_source, read_only=True))
    if spec.output and spec.output.volume_source:
        found.append(_volume("output", _output_mount(inputs), spec.output.volume_source))
    if spec.output and spec.output.image_push_secret:
        secret = {"secret": {"secretName": spec.output.image_push_secret}}
        found.append(_volume("registry", REGISTRY_MOUNT, secret, read_only=True))
    for index, (path, name) in enumerate(_pull_mounts(spec)):
        found.append(_volume(f"pull-{index}", path, {"secret": {"secretName": name}}, read_only=True))
    return found


def _volume(name: str, path: str, source: dict[str, Any], *, read_only: bool = False) -> tuple[Manifest, Manifest]:
    mount = {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
    return mount, {"name": name, **source}


def _resources(plan: TuningPlan) -> Manifest:
    """Requests that one machine can meet beside its own daemons."""
    machine = plan.machine
    requests = requested_cpus(machine)
    if machine.device == "cuda":
        requests["nvidia.com/gpu"] = str(plan.workers)
        return {"requests": requests, "limits": {"nvidia.com/gpu": str(plan.workers)}}
    needed = (plan.memory.weights_bytes + plan.memory.overhead_bytes) * plan.workers
    requests["memory"] = mebibytes(needed)
    return {"requests": requests}
