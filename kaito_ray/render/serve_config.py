"""`serveConfigV2`: what KubeRay sends to Ray Serve.

`args` replaces the replica when it changes; `user_config` changes in place. KubeRay compares the text, so equal inputs
must give equal bytes.
"""

from __future__ import annotations

import yaml

from kaito_ray.api import names
from kaito_ray.api.app_args import IMPORT_PATH, AppArgs, ModelSource, UserConfig
from kaito_ray.api.workspace import InferenceSpec, PresetSpec
from kaito_ray.render.adapters import user_adapters
from kaito_ray.render.inputs import Manifest, ServingInputs
from kaito_ray.render.scaling import autoscaling_config
from kaito_ray.render.vllm_args import engine_args


def serve_config(inputs: ServingInputs) -> str:
    """Return the text of `serveConfigV2`."""
    deployment: Manifest = {"name": names.DEPLOYMENT, "user_config": user_config(inputs.inference).to_wire()}
    if (scaling := autoscaling_config(inputs)) is not None:
        deployment["autoscaling_config"] = scaling
    application: Manifest = {
        "name": names.APPLICATION,
        "route_prefix": "/",
        "import_path": IMPORT_PATH,
        "args": app_args(inputs).to_wire(),
        "deployments": [deployment],
    }
    return yaml.safe_dump({"applications": [application]}, sort_keys=False, width=120, allow_unicode=True)


def app_args(inputs: ServingInputs) -> AppArgs:
    """Return what is fixed for the life of a replica."""
    plan, model = inputs.plan, inputs.plan.preset
    asked = _preset(inputs)
    options = engine_args(inputs)
    return AppArgs(
        workspace=inputs.workspace.metadata.name,
        namespace=inputs.workspace.metadata.namespace,
        served_model_name=model.name,
        source=_source(model.source, asked),
        device=plan.machine.device,
        # The front end's parsers have fields of their own.
        tool_call_parser=options.pop("tool_call_parser", model.tool_call_parser),
        reasoning_parser=options.pop("reasoning_parser", model.reasoning_parser),
        engine_args=options,
        chat_template=model.chat_template,
        trust_remote_code=asked.trust_remote_code,
        replicas=plan.data_parallel,
    )


def user_config(spec: InferenceSpec) -> UserConfig:
    """Return what changes while serving: adapters, limits, and whether keys are asked for; never a key."""
    return UserConfig(adapters=user_adapters(spec), keys_required=spec.api_keys_secret is not None, limits=spec.limits)


def _source(source: ModelSource, asked: PresetSpec) -> ModelSource:
    return source.model_copy(update={"revision": asked.revision}) if asked.revision and not source.image else source


def _preset(inputs: ServingInputs) -> PresetSpec:
    preset = inputs.inference.preset
    if preset is None:
        raise ValueError(f"Workspace {inputs.workspace.metadata.name} names no preset")
    return preset
