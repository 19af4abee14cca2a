"""Observed -> what to render, or why not. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from kaito_ray.api.app_args import ACCOUNT_CREDENTIALS
from kaito_ray.api.workspace import Autoscaling, InferenceSpec, PresetSpec, Workspace
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.offers import Offer, is_ready, offer
from kaito_ray.controller.served_model import require_model
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UnsupportedGPU
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.plan import ServingPlan, cheapest, choose, plan_serving
from kaito_ray.render import inference_config
from kaito_ray.render.adapters import possible, pull_secrets
from kaito_ray.render.inference_config import InferenceConfig
from kaito_ray.render.inputs import ServingInputs
from kaito_ray.render.scaling import target
from kaito_ray.render.vllm_args import serving_options


class ConfigMissing(InvalidWorkspace):
    """`inference.config` names a ConfigMap that does not exist; it is noticed when it appears."""

    reason = "ConfigMapNotFound"


class SecretMissing(InvalidWorkspace):
    """A Secret that the Workspace names does not exist; it is noticed when it appears."""

    reason = "SecretNotFound"


DOCKER_CONFIG: Final = ".dockerconfigjson"
"""Key of a Secret of type kubernetes.io/dockerconfigjson."""


@dataclass(frozen=True)
class Planned:
    """What the manifests are rendered from."""

    inputs: ServingInputs
    offer: Offer

    @property
    def plan(self) -> ServingPlan:
        """The plan, with what was asked for where that differs."""
        return self.inputs.plan


def plan(seen: Observed, settings: Settings, *, pinned_image: str | None = None) -> Planned:
    """Return the plan of a serving Workspace; `pinned_image` is the worker image it is served with already.

    Raises:
        UserError: it cannot be served as it is; the message names the field and the remedy.
    """
    workspace = seen.workspace
    spec = workspace.inference
    if spec is None or spec.preset is None:
        raise InvalidWorkspace("inference.preset", "name the model to serve")
    config = _config(spec, seen)
    preset = _with_its_weights(require_model(seen.model, spec.preset, "inference.preset.name"), spec.preset)
    _require_access(preset, spec)
    _require_lora(preset, spec)
    secrets = {**_pull_secrets(spec, seen), **_account_secrets(seen)}
    options = replace(serving_options(preset, spec, config), image=settings.engine_image)
    offered = offer(workspace.resource, seen.nodes, settings)
    if _nodes_exist(settings):
        # GPUs' own network does not reach from one MIG slice to another.
        sliced = workspace.resource.partition is not None and workspace.resource.partition.mode == "mig"
        options = replace(options, max_nodes=1 if sliced else sum(map(is_ready, seen.nodes)))
    pick = choose if _names_a_machine(workspace) or _nodes_exist(settings) else cheapest
    chosen = pick(preset, offered.machines, options)
    chosen = replace(chosen, requested_instance_type=offered.requested)
    if spec.autoscaling is not None:
        chosen = replace(chosen, why=(*chosen.why, _scaled(chosen, spec.autoscaling)))
    alike = _alike(chosen, preset, offered.machines, options)
    return Planned(
        inputs=ServingInputs(
            workspace=workspace,
            plan=chosen,
            image=pinned_image or settings.worker_image,
            hub_endpoint=settings.mirror,
            config=config,
            pull_secrets=secrets,
            api_keys=_api_keys(spec, seen),
            provisioner=settings.provisioner,
            node_class=settings.node_class,
            instance_types=alike if _lists(workspace) else alike[:1],
            copies_now=seen.replicas.desired if seen.replicas else 0,
            redis=settings.redis,
            regional=settings.provider == "azure",
        ),
        offer=offered,
    )


def _scaled(chosen: ServingPlan, scaling: Autoscaling) -> str:
    """Return the sentence about replicas: how many, what they cost at most, and when there is one more."""
    requests = scaling.target_ongoing_requests or target(chosen)
    many = f"{scaling.min_replicas} to {scaling.max_replicas} replicas"
    if chosen.machine.device == "cpu":
        return f"{many}, which share the machine: one more from {requests} requests in flight for each"
    machines = chosen.nodes * scaling.max_replicas
    most = f"at most {machines} machines with {machines * chosen.machine.gpu_count} GPUs"
    return f"{many} of {chosen.nodes} machines each, {most}: one more from {requests} requests in flight for each copy"


def _config(spec: InferenceSpec, seen: Observed) -> InferenceConfig:
    if spec.config is None:
        return InferenceConfig()
    if seen.config is None:
        raise ConfigMissing("inference.config", f"there is no ConfigMap {spec.config} in this namespace; create it")
    return inference_config.parse(seen.config)


def _with_its_weights(preset: ModelPreset, asked: PresetSpec) -> ModelPreset:
    """Return the preset with the weights that the Workspace names: an image's need no permission of the hub."""
    image = asked.preset_options.image if asked.preset_options else None
    if not image:
        return preset
    return preset.model_copy(update={"source": preset.source.model_copy(update={"image": image}), "gated": False})


def _require_access(preset: ModelPreset, spec: InferenceSpec) -> None:
    options = spec.preset.preset_options if spec.preset else None
    if preset.gated and not (options and options.model_access_secret):
        raise InvalidWorkspace(
            "inference.preset.presetOptions.modelAccessSecret",
            f"{preset.name} is gated: name a Secret whose key HF_TOKEN holds a token that may read {preset.source.hub}",
        )


def _nodes_exist(settings: Settings) -> bool:
    """Whether the machines are there already, so that no more can be had."""
    return settings.provider == "local" or settings.provisioner == "byo"


def _names_a_machine(workspace: Workspace) -> bool:
    return bool(workspace.resource.instance_type or workspace.resource.instance_types)


def _require_lora(preset: ModelPreset, spec: InferenceSpec) -> None:
    if spec.adapters and not possible(preset):
        raise InvalidWorkspace("inference.adapters", f"vLLM serves no LoRA adapters of {preset.name}; remove them")


def _pull_secrets(spec: InferenceSpec, seen: Observed) -> dict[str, str]:
    found = {}
    options = spec.preset.preset_options if spec.preset else None
    for name in pull_secrets(spec):
        mine = "preset.presetOptions" if options and name in options.image_pull_secrets else "adapters[].source"
        field = f"inference.{mine}.imagePullSecrets"
        secret = seen.pull_secrets.get(name)
        if secret is None:
            raise SecretMissing(field, f"there is no Secret {name} in this namespace; create it")
        content = (secret.get("data") or {}).get(DOCKER_CONFIG)
        if content is None:
            raise InvalidWorkspace(field, f"the Secret {name} has no key {DOCKER_CONFIG}; make it of that type")
        found[f"{name}.json"] = content
    return found


def _account_secrets(seen: Observed) -> dict[str, str]:
    """Return the ServiceAccount's credentials by file; as to a kubelet, one of another type is as good as none."""
    contents = {name: (secret.get("data") or {}).get(DOCKER_CONFIG) for name, secret in seen.account_secrets.items()}
    return {f"{name}{ACCOUNT_CREDENTIALS}": content for name, content in contents.items() if content}


def _api_keys(spec: InferenceSpec, seen: Observed) -> dict[str, str]:
    """Return the keys; a Secret without any is carried out too, and opens nothing: so the last key can be revoked."""
    if spec.api_keys_secret is None:
        return {}
    if seen.api_keys is None:
        name = spec.api_keys_secret
        raise SecretMissing(
            "inference.apiKeysSecret",
            f"there is no Secret {name} in this namespace; create it (kubectl create secret generic {name} "
            "--from-literal=NAME=KEY)",
        )
    return dict(seen.api_keys.get("data") or {})


def _lists(workspace: Workspace) -> bool:
    return bool(workspace.resource.instance_types)


def _alike(
    chosen: ServingPlan, preset: ModelPreset, machines: tuple[Machine, ...], options: ServingOptions
) -> tuple[str, ...]:
    """Return the instance types that serve by the very same plan: one NodePool can fall back from one to the next."""

    def same(machine: Machine) -> bool:
        try:
            other = plan_serving(preset, machine, options)
        except (DoesNotFit, UnsupportedGPU):
            return False
        return _split(other) == _split(chosen)

    rest = (m.instance_type for m in machines if m != chosen.machine and same(m))
    return (chosen.machine.instance_type, *rest)


def _split(plan_: ServingPlan) -> tuple[object, ...]:
    machine = plan_.machine
    return (
        *(plan_.nodes, plan_.tensor_parallel, plan_.pipeline_parallel, plan_.data_parallel),
        *(plan_.dtype, plan_.context_length_tokens, machine.gpu_count, machine.device),
    )
