"""A tuning Workspace, observed -> what its RayJob is rendered from, or why not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from kaito_ray.api.workspace import TuningSpec
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.offers import Offer, offer
from kaito_ray.controller.planning import ConfigMissing, SecretMissing
from kaito_ray.controller.served_model import require_model
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import DoesNotFit, InvalidWorkspace
from kaito_ray.estimator.tuning import TuningOptions, TuningPlan, plan_tuning
from kaito_ray.render import training_config
from kaito_ray.render.rayjob import TuningInputs

_PRESET = "tuning.preset"


@dataclass(frozen=True)
class PlannedTuning:
    """What the manifests are rendered from."""

    inputs: TuningInputs
    offer: Offer

    @property
    def plan(self) -> TuningPlan:
        """The plan."""
        return self.inputs.plan


def plan_run(seen: Observed, settings: Settings) -> PlannedTuning:
    """Return the plan of a tuning Workspace.

    Raises:
        UserError: it cannot be tuned as it is; the message names the field and the remedy.
    """
    workspace = seen.workspace
    spec = workspace.tuning
    if spec is None or spec.preset is None:
        raise InvalidWorkspace(_PRESET, "name the model to tune")
    preset = require_model(seen.model, spec.preset, _PRESET + ".name")
    _require_access(preset, spec)
    _require_secrets(spec, seen)
    config = _config(spec, seen)
    offered = offer(workspace.resource, seen.nodes, settings)
    options = _options(spec, config)
    plan = _first_that_fits(preset, offered.machines, options)
    return PlannedTuning(
        inputs=TuningInputs(
            workspace=workspace,
            plan=plan,
            image=settings.worker_image,
            hub_endpoint=settings.mirror,
            options=options,
            config=config,
            provisioner=settings.provisioner,
            node_class=settings.node_class,
            instance_types=(plan.machine.instance_type,),
            regional=settings.provider == "azure",
            data_allow=settings.data_allow,
        ),
        offer=offered,
    )


def _options(spec: TuningSpec, config: dict[str, Any]) -> TuningOptions:
    defaults = TuningOptions()
    rank = (config.get("LoraConfig") or {}).get("r", defaults.rank)
    # Our own profile packs examples into sequences of this length on a GPU.
    longest = 2048 if config.get("profile") == "recommended" else defaults.max_tokens
    method: Literal["lora", "qlora"] = "lora" if (spec.method or "").lower() == "lora" else "qlora"
    return TuningOptions(
        method=method,
        batch_size=training_config.training_argument(config, "per_device_train_batch_size", defaults.batch_size),
        max_tokens=training_config.training_argument(config, "max_length", longest),
        rank=rank if isinstance(rank, int) else defaults.rank,
        workers=spec.workers or 1,
    )


def _first_that_fits(preset: ModelPreset, machines: Sequence[Machine], options: TuningOptions) -> TuningPlan:
    """Return the plan on the first machine that can do it alone: workers on several would need storage they share."""
    why: DoesNotFit | InvalidWorkspace | None = None
    for machine in machines:
        if machine.device == "cuda" and options.workers > machine.gpu_count:
            why = InvalidWorkspace(
                "tuning.workers",
                f"{options.workers} workers need as many GPUs in one machine, {machine.instance_type} has "
                f"{machine.gpu_count}; use fewer workers or a larger machine",
            )
            continue
        try:
            # On a CPU the workers share the machine.
            return replace(plan_tuning(preset, machine, options), nodes=1)
        except DoesNotFit as error:
            why = why or error
    raise why or DoesNotFit(f"no machine is on offer for tuning {preset.name}")


def _config(spec: TuningSpec, seen: Observed) -> dict[str, Any]:
    if spec.config is None:
        return {}
    if seen.config is None:
        raise ConfigMissing("tuning.config", f"there is no ConfigMap {spec.config} in this namespace; create it")
    return training_config.parse(seen.config)


def registry_secrets(spec: TuningSpec) -> list[tuple[str, str]]:
    """Return the Secrets of registry credentials that a run needs: field and name."""
    named = [("tuning.input.imagePullSecrets", name) for name in (spec.input.image_pull_secrets if spec.input else ())]
    if spec.output and spec.output.image_push_secret:
        named.append(("tuning.output.imagePushSecret", spec.output.image_push_secret))
    return named


def _require_secrets(spec: TuningSpec, seen: Observed) -> None:
    for field, name in registry_secrets(spec):
        if name not in seen.pull_secrets:
            raise SecretMissing(field, f"there is no Secret {name} in this namespace; create it")


def _require_access(preset: ModelPreset, spec: TuningSpec) -> None:
    options = spec.preset.preset_options if spec.preset else None
    if preset.gated and not (options and options.model_access_secret):
        raise InvalidWorkspace(
            f"{_PRESET}.presetOptions.modelAccessSecret",
            f"{preset.name} is gated: name a Secret whose key HF_TOKEN holds a token that may read {preset.source.hub}",
        )
