"""Plan -> vLLM's engine arguments, and the planner's wishes out of a Workspace's options."""

from __future__ import annotations

from typing import Any

from kaito_ray.api import names
from kaito_ray.api.workspace import InferenceSpec
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.render import adapters
from kaito_ray.render.inference_config import InferenceConfig
from kaito_ray.render.inputs import ServingInputs


def serving_options(preset: ModelPreset, spec: InferenceSpec, config: InferenceConfig) -> ServingOptions:
    """Return what the planner is asked for; memory of adapters is counted from the first day, for they may come later."""
    wishes = config.planned
    defaults = ServingOptions()
    return ServingOptions(
        context_length_tokens=wishes.get("max_model_len"),
        dtype=wishes.get("dtype"),
        kv_cache_dtype=wishes.get("kv_cache_dtype", defaults.kv_cache_dtype),
        memory_utilization=wishes.get("gpu_memory_utilization"),
        kv_cache_bytes=config.engine.get("kv_cache_memory_bytes"),
        max_batched_tokens=wishes.get("max_num_batched_tokens"),
        tensor_parallel=wishes.get("tensor_parallel_size"),
        pipeline_parallel=wishes.get("pipeline_parallel_size"),
        adapters=adapters.slots(preset, spec),
        max_lora_rank=wishes.get("max_lora_rank", adapters.DEFAULT_RANK),
        replicas=spec.autoscaling.max_replicas if spec.autoscaling else None,
    )


def engine_args(inputs: ServingInputs) -> dict[str, Any]:
    """Return the engine's arguments by Python name, sorted: the preset's, the plan's over them, the person's last."""
    plan, options = inputs.plan, inputs.config
    args: dict[str, Any] = {
        **plan.preset.engine_args,
        **adapters.engine_args(plan.preset, inputs.inference, options),
        "max_model_len": plan.context_length_tokens,
        "dtype": plan.dtype,
    }
    if plan.kv_cache_dtype != "auto":
        args["kv_cache_dtype"] = plan.kv_cache_dtype
    if plan.machine.device == "cuda":
        args["gpu_memory_utilization"] = plan.memory_utilization
        args["tensor_parallel_size"] = plan.tensor_parallel
        if plan.pipeline_parallel > 1:
            args["pipeline_parallel_size"] = plan.pipeline_parallel
    elif plan.memory.kv_cache_bytes:
        args["kv_cache_memory_bytes"] = plan.memory.kv_cache_bytes
    if plan.max_batched_tokens:
        args["max_num_batched_tokens"] = plan.max_batched_tokens
    if "max_num_batched_tokens" in options.planned:
        args["max_num_batched_tokens"] = options.planned["max_num_batched_tokens"]
    mode = inputs.workspace.metadata.annotations.get(names.PERFORMANCE_MODE_ANNOTATION, "balanced").lower()
    if mode != "balanced":
        args["performance_mode"] = mode
    return dict(sorted({**args, **options.engine}.items()))
