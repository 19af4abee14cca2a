"""Serving on CPUs: one replica is one process, and its memory is the host's."""

from __future__ import annotations

from typing import Final

from kaito_ray.api.status import MemoryParts
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, UnsupportedGPU, UserError
from kaito_ray.estimator import overhead, why
from kaito_ray.estimator.fit import at_once, kv_cache_dtype, longest
from kaito_ray.estimator.kv_cache import CacheLayout, kv_element_bytes, sequence_bytes
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.serving_plan import ServingPlan
from kaito_ray.estimator.weights import weights_per_gpu

CPU_CONTEXT_TOKENS: Final = 8192
"""Context where none is asked for: longer prompts take minutes on a CPU."""
FLOOR_CONTEXT_TOKENS: Final = 2048
"""Least context that is worth serving, where none is asked for."""
CPU_BATCHED_TOKENS: Final = 2048
CPU_BLOCK_TOKENS: Final = 128
CPU_WINDOW_BLOCK_TOKENS: Final = 32
"""Tokens of one engine step, of a cache block, and of a sliding window's. Source: vLLM's defaults on a CPU."""
CPU_QUANTIZATIONS: Final = frozenset({"awq", "gptq"})
"""What vLLM's CPU kernels read. Source: vLLM documentation, supported hardware."""


def plan_on_cpu(preset: ModelPreset, machine: Machine, options: ServingOptions, *, dtype: str) -> ServingPlan:
    """Return the plan for a machine without GPUs.

    Raises:
        UnsupportedGPU: the model's quantisation needs a GPU.
        DoesNotFit: the host's memory is too small.
        UserError: the host's memory is unknown.
    """
    packed = preset.quantization
    if packed is not None and packed.method not in CPU_QUANTIZATIONS:
        raise UnsupportedGPU(
            f"{preset.name} is quantised with {packed.method}, which needs a GPU; "
            f"on CPUs use an unquantised, {' or '.join(sorted(CPU_QUANTIZATIONS))} variant"
        )
    if machine.memory_bytes is None:
        raise UserError(f"{machine.instance_type}: its memory is unknown, so nothing can be planned on its CPUs")
    weights = weights_per_gpu(preset, dtype=dtype)
    beside = overhead.CPU_RUNTIME_BYTES + overhead.lora_slots(
        preset.shape, adapters=options.adapters, rank=options.max_lora_rank
    )
    layout = CacheLayout(
        element_bytes=kv_element_bytes(kv_cache_dtype(preset, options), dtype),
        batched_tokens=options.max_batched_tokens or CPU_BATCHED_TOKENS,
        concurrent_steps=1,
        block_tokens=CPU_BLOCK_TOKENS,
        window_block_tokens=CPU_WINDOW_BLOCK_TOKENS,
    )

    def sequence(tokens: int) -> int:
        return sequence_bytes(preset.shape, tokens, layout)

    floor = options.context_length_tokens or min(preset.max_model_len, FLOOR_CONTEXT_TOKENS)
    left = machine.memory_bytes // (options.replicas or 1) - weights - beside
    # A replica that may get company is modest from the first day, so that one more of them changes nothing for it.
    most = overhead.CPU_KV_LIMIT_BYTES if options.replicas is None else overhead.CPU_KV_SHARED_LIMIT_BYTES
    room = options.kv_cache_bytes or max(min(most, int(left * overhead.CPU_KV_SHARE)), sequence(floor))
    if not preset.shape.groups:
        room = 0
    if not sequence(floor) <= room <= left:
        raise DoesNotFit(_too_small(preset, machine, options, weights + beside + max(room, sequence(floor)), floor))
    limit = min(preset.max_model_len, CPU_CONTEXT_TOKENS)
    context = options.context_length_tokens or longest(
        limit, floor, lambda t: sequence(t) <= room, step=CPU_BLOCK_TOKENS
    )
    return ServingPlan(
        preset=preset,
        machine=machine,
        nodes=1,
        tensor_parallel=1,
        pipeline_parallel=1,
        data_parallel=1,
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype(preset, options),
        context_length_tokens=context,
        concurrent_sequences=at_once(room, sequence(context), context, layout),
        memory=MemoryParts(
            total_bytes=machine.memory_bytes,
            weights_bytes=weights,
            kv_cache_bytes=room,
            overhead_bytes=beside,
        ),
        memory_utilization=1.0,
        max_batched_tokens=options.max_batched_tokens,
        why=(
            f"1 machine: {why.gib(weights + beside)} of weights and runtime fit its {why.gib(machine.memory_bytes)}",
            f"KV cache {why.gib(room)}: {_room_why(options, room, sequence(floor))}",
            why.dtype(preset, machine, options, dtype),
            why.context(preset, options, context, limit=limit, limit_why=_limit_why(preset)),
        ),
    )


def _limit_why(preset: ModelPreset) -> str:
    if preset.max_model_len <= CPU_CONTEXT_TOKENS:
        return f"all that {preset.name} can"
    return f"of {preset.max_model_len}; longer prompts take minutes on a CPU"


def _room_why(options: ServingOptions, room: int, least: int) -> str:
    if room == 0:
        return "an encoder keeps nothing between tokens"
    if options.kv_cache_bytes:
        return "as asked"
    if room == least:
        return "one sequence of the context"
    most = "0.5 GiB, for replicas share the machine" if options.replicas else "4 GiB"
    return f"a quarter of the memory that is left, at most {most}"


def _too_small(preset: ModelPreset, machine: Machine, options: ServingOptions, need: int, tokens: int) -> str:
    have = machine.memory_bytes or 0
    shared = f", shared by {options.replicas} replicas" if (options.replicas or 1) > 1 else ""
    return (
        f"{preset.name} needs {why.gib(need)} of memory at {tokens} tokens; {machine.instance_type} has "
        f"{why.gib(have)}{shared}; use a smaller model, a shorter context or a machine with more memory"
    )
