"""Model + machine + wishes -> a plan, with a sentence for every choice; or what would fit instead.

The rules, in order:

1. The fewest machines that hold weights, overhead and one sequence of the context.
2. Within one machine, the smallest tensor parallelism that also leaves a comfortable cache; the GPUs that remain
   serve as data-parallel copies. Tensor parallelism divides the query heads, and either divides the KV heads or is
   a multiple of them.
3. Across machines, pipeline stages: they exchange little, and networks are slow. Tensor parallelism stays inside.
4. The context is what was asked for; else the model's own limit, cut to what one sequence can use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kaito_ray.api.status import MemoryParts
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UnsupportedGPU
from kaito_ray.estimator import overhead, why
from kaito_ray.estimator.cpu import plan_on_cpu
from kaito_ray.estimator.fit import Fit, at_once, batched_tokens, fit, kv_cache_dtype, longest
from kaito_ray.estimator.kv_cache import sequence_bytes
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.remedy import does_not_fit
from kaito_ray.estimator.serving_plan import ServingPlan
from kaito_ray.estimator.split import splits

__all__ = ["ServingOptions", "ServingPlan", "cheapest", "choose", "compare", "explained", "left_out", "plan_serving"]

FLOOR_CONTEXT_TOKENS: Final = 8192
"""Where no context is asked for, a plan must hold at least this (or the model's limit), to be worth its machines."""
KERNELS_FROM: Final = {"mxfp4": 8.0, "fp8": 7.5, "awq": 7.5, "pack-quantized": 7.5, "float-quantized": 7.5}
"""Least compute capability by how weights are packed. Source: vLLM `get_min_capability` of each; others take any GPU."""
COMFORTABLE_SEQUENCES: Final = 4
"""Sequences at once that justify a smaller tensor parallelism."""


def plan_serving(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan:
    """Return the plan for that model on machines of that kind.

    Raises:
        UnsupportedGPU: the engine image does not run on it, or it lacks the type that was asked for.
        DoesNotFit: no number of these machines holds the model; the message says what would.
        InvalidWorkspace: a wish contradicts the model.
        UserError: the machine's memory is unknown.
    """
    asked = options.context_length_tokens
    if asked is not None and asked > preset.max_model_len:
        raise InvalidWorkspace(
            "inference.config",
            f"max-model-len {asked} is more than {preset.name} can; use at most {preset.max_model_len}",
        )
    if machine.device == "cpu":
        return plan_on_cpu(preset, machine, options, dtype=_dtype(preset, machine, options))
    _require_supported(machine, options)
    _require_kernels(preset, machine)
    return _plan_on_gpus(preset, machine, options)


def choose(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> ServingPlan:
    """Return the plan of the first machine that fits, in the order given; its first sentences say what was passed over.

    Raises:
        DoesNotFit: none does; the message has each one's reason.
        UnsupportedGPU: the engine image runs on none of them.
    """
    refused: list[DoesNotFit | UnsupportedGPU] = []
    for machine in machines:
        try:
            plan = plan_serving(preset, machine, options)
        except (DoesNotFit, UnsupportedGPU) as error:
            refused.append(error)
        else:
            passed_over = (
                f"not {why.shortly(before, error)}" for before, error in zip(machines, refused, strict=False)
            )
            return replace(plan, why=(*passed_over, *plan.why))
    raise _none_fits(preset, machines, refused)


def compare(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> tuple[ServingPlan, ...]:
    """Return the plans of all machines that the model fits, the best first; retired types are left out.

    A GPU before a CPU, one machine before several; then the lowest price, and machines without one after those that
    have one; then the least GPU memory in all; then the smallest host whose memory is at least that of its GPUs.

    Raises:
        DoesNotFit: none fits; the message has each one's reason.
        UnsupportedGPU: the engine image runs on none of them.
    """
    plans: list[ServingPlan] = []
    refused: list[DoesNotFit | UnsupportedGPU] = []
    current = [machine for machine in machines if not machine.retired]
    for machine in current:
        try:
            plans.append(plan_serving(preset, machine, options))
        except (DoesNotFit, UnsupportedGPU) as error:
            refused.append(error)
    if not plans:
        raise _none_fits(preset, current, refused)
    return tuple(sorted(plans, key=_rank))


def _none_fits(
    preset: ModelPreset, machines: Sequence[Machine], refused: Sequence[DoesNotFit | UnsupportedGPU]
) -> DoesNotFit | UnsupportedGPU:
    if not refused:
        return DoesNotFit(f"no machine is on offer for {preset.name}")
    if len(refused) == 1:
        return refused[0]
    words = "; ".join(why.of_machine(machine, error) for machine, error in zip(machines, refused, strict=True))
    unsupported = all(isinstance(error, UnsupportedGPU) for error in refused)
    return UnsupportedGPU(words) if unsupported else DoesNotFit(words)


def left_out(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> tuple[str, ...]:
    """Return why each machine that `compare` left out was, in a few words: `g6.xlarge: ...`."""
    found: list[str] = []
    for machine in machines:
        if machine.retired:
            found.append(f"{machine.instance_type}: retired by its provider")
            continue
        try:
            plan_serving(preset, machine, options)
        except (DoesNotFit, UnsupportedGPU) as error:
            found.append(why.shortly(machine, error))
    return tuple(found)


def cheapest(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> ServingPlan:
    """Return the best plan of all these machines, for a person who named none; its first sentence says why.

    Raises:
        DoesNotFit: none fits; the message has each one's reason.
    """
    return explained(preset, machines, options)[0]


def explained(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> tuple[ServingPlan, ...]:
    """Return the same as `compare`, and the first plan's first sentence says why it is the first.

    Raises:
        DoesNotFit: none fits; the message has each one's reason.
    """
    plans = compare(preset, machines, options)
    if len(plans) == 1:
        return plans
    by = "the least GPU memory" if plans[0].price_per_hour is None else "the lowest price"
    name = plans[0].machine.instance_type
    first = f"{name}: the fewest machines, then {by}, of {len(plans)} types that fit"
    return replace(plans[0], why=(first, *plans[0].why)), *plans[1:]


def _rank(plan: ServingPlan) -> tuple[object, ...]:
    machine, price = plan.machine, plan.price_per_hour
    gpu_memory = machine.gpu_count * machine.gpu_memory_bytes
    return (
        machine.device == "cpu",
        plan.nodes,
        price is None,
        plan.nodes * gpu_memory if price is None else price,
        # Weights pass through the host's memory.
        (machine.memory_bytes or 0) < gpu_memory,
        machine.cpus or 0,
        machine.instance_type,
    )


def _require_supported(machine: Machine, options: ServingOptions) -> None:
    image = options.image
    if machine.vendor != image.vendor:
        raise UnsupportedGPU(
            f"{machine.instance_type}: {machine.gpu_model} cannot run the {image.name} engine image; "
            f"use a machine with {image.vendor} GPUs"
        )
    if image.gpu_models is not None and machine.gpu_model not in image.gpu_models:
        raise UnsupportedGPU(
            f"{machine.instance_type}: {machine.gpu_model} is not among the GPUs of the {image.name} engine image; use "
            f"{' or '.join(sorted(image.gpu_models))}"
        )
    capability = machine.compute_capability
    if capability is not None and capability < image.min_compute_capability:
        raise UnsupportedGPU(
            f"{machine.instance_type}: {machine.gpu_model} has compute capability {capability}, the {image.name} "
            f"engine image needs {image.min_compute_capability}; use a newer GPU, or configure an image that was built "
            "with an older CUDA"
        )


def _require_kernels(preset: ModelPreset, machine: Machine) -> None:
    """A packed model needs a GPU that has kernels for its packing."""
    packed, capability = preset.quantization, machine.compute_capability
    least = KERNELS_FROM.get(packed.method, 0.0) if packed else 0.0
    if packed and capability is not None and capability < least:
        raise UnsupportedGPU(
            f"{machine.instance_type}: {machine.gpu_model} has compute capability {capability}, the kernels for "
            f"{packed.method} need {least}; use a newer GPU"
        )


def _dtype(preset: ModelPreset, machine: Machine, options: ServingOptions) -> str:
    """The type asked for, else the model's own, else the nearest that the device and the model compute."""
    possible = [d for d in machine.dtypes if preset.float16 or d != "float16"]
    if options.dtype in (None, "auto"):
        return preset.dtype if preset.dtype in possible else possible[0]
    if options.dtype not in possible:
        raise UnsupportedGPU(
            f"{machine.instance_type}: {preset.name} on {machine.gpu} does not compute {options.dtype}; "
            f"use {possible[0]}"
        )
    return str(options.dtype)


def _plan_on_gpus(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan:
    dtype = _dtype(preset, machine, options)
    utilization = options.memory_utilization or overhead.UTILIZATION
    budget = int(machine.gpu_memory_bytes * utilization)
    floor = options.context_length_tokens or min(preset.max_model_len, FLOOR_CONTEXT_TOKENS)
    chosen = _smallest_that_fits(preset, machine, options, budget_bytes=budget, dtype=dtype, tokens=floor)
    limit = options.context_length_tokens or preset.max_model_len
    context = longest(limit, floor, lambda tokens: chosen.holds(preset, tokens))
    split = chosen.split
    return ServingPlan(
        preset=preset,
        machine=machine,
        nodes=split.nodes,
        tensor_parallel=split.tensor_parallel,
        pipeline_parallel=split.pipeline_parallel,
        data_parallel=split.data_parallel,
        dtype=dtype,
        kv_cache_dtype=kv_cache_dtype(preset, options),
        context_length_tokens=context,
        concurrent_sequences=split.data_parallel
        * at_once(chosen.kv, sequence_bytes(preset.shape, context, chosen.layout), context, chosen.layout),
        memory=MemoryParts(
            total_bytes=machine.gpu_memory_bytes,
            weights_bytes=chosen.weights,
            kv_cache_bytes=chosen.kv,
            overhead_bytes=chosen.overhead + machine.gpu_memory_bytes - budget,
        ),
        memory_utilization=utilization,
        max_batched_tokens=batched_tokens(preset, options),
        why=(
            *why.split(machine, chosen),
            why.dtype(preset, machine, options, dtype),
            why.context(preset, options, context, limit=limit, limit_why=f"all that {preset.name} can"),
            *why.image(options.image),
        ),
    )


def _smallest_that_fits(
    preset: ModelPreset, machine: Machine, options: ServingOptions, *, budget_bytes: int, dtype: str, tokens: int
) -> Fit:
    best: Fit | None = None
    roomiest: Fit | None = None
    for split in splits(preset, machine, options):
        seen = fit(preset, split, options, budget_bytes=budget_bytes, dtype=dtype)
        if best and (split.nodes, split.pipeline_parallel) > (best.split.nodes, best.split.pipeline_parallel):
            break
        if seen.holds(preset, tokens):
            best = seen
            if seen.holds(preset, tokens, sequences=COMFORTABLE_SEQUENCES):
                break
        roomiest = seen if roomiest is None or seen.kv > roomiest.kv else roomiest
    if best:
        return best
    if roomiest is None:
        raise InvalidWorkspace(
            "inference.config",
            f"pipeline-parallel-size {options.pipeline_parallel} is not possible for {preset.name} "
            f"({preset.shape.layers} layers) on {machine.instance_type}; leave it out",
        )
    raise does_not_fit(preset, machine, options, roomiest, tokens)
