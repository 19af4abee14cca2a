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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kaito_ray.api.status import MemoryParts, PlanStatus
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UnsupportedGPU, UserError
from kaito_ray.estimator import kv_cache, overhead, weights
from kaito_ray.estimator.options import ServingOptions

__all__ = ["ServingOptions", "ServingPlan", "choose", "plan_serving"]

FLOOR_CONTEXT_TOKENS: Final = 8192
"""Where no context is asked for, a plan must hold at least this (or the model's limit), to be worth its machines."""
CPU_CONTEXT_TOKENS: Final = 8192
"""Default limit on a CPU: longer prompts take minutes there."""
COMFORTABLE_SEQUENCES: Final = 4
"""Sequences at once that justify a smaller tensor parallelism."""


@dataclass(frozen=True)
class ServingPlan:
    """How a model is served. Byte figures are per device."""

    preset: ModelPreset
    machine: Machine
    nodes: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    dtype: str
    kv_cache_dtype: str
    context_length_tokens: int
    concurrent_sequences: int
    """Sequences of the full context that one data-parallel copy caches at once."""
    memory: MemoryParts
    memory_utilization: float
    why: tuple[str, ...]
    requested_instance_type: str | None = None

    @property
    def gpus(self) -> int:
        """GPUs in use."""
        return self.nodes * self.machine.gpu_count

    def to_status(self) -> PlanStatus:
        """Return the plan as `status.plan`."""
        return PlanStatus(
            instance_type=self.machine.instance_type,
            requested_instance_type=self.requested_instance_type,
            device=self.machine.device,
            nodes=self.nodes,
            gpus_per_node=self.machine.gpu_count,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            data_parallel=self.data_parallel,
            dtype=self.dtype,
            context_length_tokens=self.context_length_tokens,
            concurrent_sequences=self.concurrent_sequences,
            memory=self.memory,
            why=self.why,
        )


def plan_serving(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan:
    """Return the plan for that model on machines of that kind.

    Raises:
        UnsupportedGPU: the engine image does not run on it.
        DoesNotFit: no number of these machines holds the model; the message says what would.
        InvalidWorkspace: a wish contradicts the model.
    """
    limit = preset.max_model_len
    asked = options.context_length_tokens
    if asked is not None and asked > limit:
        raise InvalidWorkspace(
            "inference.config", f"max-model-len {asked} is more than {preset.name} can: at most {limit}"
        )
    if machine.device == "cpu":
        return _on_cpu(preset, machine, options)
    _require_supported(machine, options)
    return _on_gpus(preset, machine, options)


def choose(preset: ModelPreset, machines: Sequence[Machine], options: ServingOptions) -> ServingPlan:
    """Return the first machine's plan that fits, in the order given.

    Raises:
        DoesNotFit: none does; the message has each one's reason.
    """
    refused: list[str] = []
    for machine in machines:
        try:
            return plan_serving(preset, machine, options)
        except (DoesNotFit, UnsupportedGPU) as error:
            refused.append(f"{machine.instance_type}: {error}")
    raise DoesNotFit("; ".join(refused) or f"no machine is on offer for {preset.name}")


def _require_supported(machine: Machine, options: ServingOptions) -> None:
    image = options.image
    if machine.vendor != image.vendor:
        raise UnsupportedGPU(f"{machine.gpu_model} cannot run the {image.name} engine image")
    capability = machine.compute_capability
    if capability is not None and capability < image.min_compute_capability:
        raise UnsupportedGPU(
            f"{machine.gpu_model} has compute capability {capability}, the {image.name} engine image needs "
            f"{image.min_compute_capability}; use a newer GPU, or configure an image built with an older CUDA"
        )


def _dtype(preset: ModelPreset, machine: Machine, options: ServingOptions) -> tuple[str, str]:
    if options.dtype and options.dtype != "auto":
        if options.dtype not in machine.dtypes:
            raise UnsupportedGPU(f"{machine.gpu_model} has no {options.dtype}; use {machine.dtypes[0]}")
        return options.dtype, f"dtype {options.dtype}: as asked"
    if preset.dtype in machine.dtypes:
        return preset.dtype, f"dtype {preset.dtype}: the model's own"
    return machine.dtypes[0], f"dtype {machine.dtypes[0]}: {machine.gpu_model} has no {preset.dtype}"


@dataclass(frozen=True)
class _Split:
    nodes: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int


@dataclass(frozen=True)
class _Fit:
    split: _Split
    weights: int
    overhead: int
    kv: int
    """Left for the cache; negative where not even the weights fit."""
    sequence: int
    """One sequence of the floor context."""

    @property
    def fits(self) -> bool:
        return self.kv >= self.sequence


def _tensor_parallels(preset: ModelPreset, gpus: int, options: ServingOptions) -> list[int]:
    """Divisors of the machine's GPUs by which the heads can be divided, smallest first."""
    heads, kv_heads = preset.shape.heads, preset.shape.kv_heads
    possible = [
        t for t in range(1, gpus + 1) if gpus % t == 0 and heads % t == 0 and (kv_heads % t == 0 or t % kv_heads == 0)
    ]
    fixed = options.tensor_parallel
    if fixed is None:
        return possible
    if fixed not in possible:
        raise InvalidWorkspace(
            "inference.config",
            f"tensor-parallel-size {fixed} does not divide {heads} heads, {kv_heads} KV heads and {gpus} GPUs; "
            f"possible are {', '.join(map(str, possible))}",
        )
    return [fixed]


def _splits(preset: ModelPreset, machine: Machine, options: ServingOptions) -> Iterator[_Split]:
    """Yield ways to place the model, the fewest machines first."""
    gpus, layers = machine.gpu_count, preset.shape.layers
    ways = _tensor_parallels(preset, gpus, options)
    for tp in ways:
        yield _Split(1, tp, 1, gpus // tp)
    tp = ways[-1]
    inside = gpus // tp
    for pp in (p for p in range(2, inside + 1) if inside % p == 0 and p <= layers):
        yield _Split(1, tp, pp, inside // pp)
    nodes = 2
    while nodes * inside <= layers:
        yield _Split(nodes, tp, nodes * inside, 1)
        nodes += 1


def _on_gpus(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan:
    dtype, dtype_why = _dtype(preset, machine, options)
    element = kv_cache.kv_element_bytes(_kv_dtype(preset, options), dtype)
    batched = options.max_batched_tokens or kv_cache.DEFAULT_BATCHED_TOKENS
    utilization = options.memory_utilization or overhead.UTILIZATION
    budget = int(machine.gpu_memory_bytes * utilization)
    floor = options.context_length_tokens or min(preset.max_model_len, FLOOR_CONTEXT_TOKENS)

    def sequence(split: _Split, tokens: int) -> int:
        return kv_cache.sequence_bytes(
            preset.shape,
            tokens,
            element_bytes=element,
            tensor_parallel=split.tensor_parallel,
            pipeline_parallel=split.pipeline_parallel,
            batched_tokens=batched,
        )

    def fit(split: _Split) -> _Fit:
        tp, pp = split.tensor_parallel, split.pipeline_parallel
        on_gpu = weights.weights_per_gpu(preset, dtype=dtype, tensor_parallel=tp, pipeline_parallel=pp)
        beside = overhead.gpu_overhead(on_gpu) + overhead.lora_slots(
            preset,
            adapters=options.adapters,
            rank=options.max_lora_rank,
            tensor_parallel=tp,
            pipeline_parallel=pp,
        )
        return _Fit(split, on_gpu, beside, budget - on_gpu - beside, sequence(split, floor))

    best: _Fit | None = None
    last: _Fit | None = None
    for split in _splits(preset, machine, options):
        last = fit(split)
        if not last.fits:
            continue
        if best and (split.nodes > best.split.nodes or split.pipeline_parallel > best.split.pipeline_parallel):
            break
        best = last
        if last.kv >= COMFORTABLE_SEQUENCES * last.sequence or split.nodes > 1:
            break
    if best is None:
        raise DoesNotFit(_remedy(preset, machine, last, budget, floor))
    split = best.split
    context = options.context_length_tokens or _longest(
        preset.max_model_len, floor, lambda tokens: sequence(split, tokens) <= best.kv
    )
    sequences = best.kv // max(1, sequence(split, context))
    return ServingPlan(
        preset=preset,
        machine=machine,
        nodes=split.nodes,
        tensor_parallel=split.tensor_parallel,
        pipeline_parallel=split.pipeline_parallel,
        data_parallel=split.data_parallel,
        dtype=dtype,
        kv_cache_dtype=_kv_dtype(preset, options),
        context_length_tokens=context,
        concurrent_sequences=sequences,
        memory=MemoryParts(
            total_bytes=machine.gpu_memory_bytes,
            weights_bytes=best.weights,
            kv_cache_bytes=best.kv,
            overhead_bytes=best.overhead + machine.gpu_memory_bytes - budget,
        ),
        memory_utilization=utilization,
        why=(*_split_why(machine, best), dtype_why, _context_why(preset, options, context)),
    )


def _on_cpu(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan:
    if preset.quantization is not None:
        raise UnsupportedGPU(
            f"{preset.name} is quantised ({preset.quantization.method}); the CPU engine image serves unquantised models"
        )
    if machine.memory_bytes is None:
        raise UserError(f"{machine.instance_type}: its memory is unknown, so nothing can be planned on its CPUs")
    dtype, dtype_why = _dtype(preset, machine, options)
    element = kv_cache.kv_element_bytes(options.kv_cache_dtype, dtype)
    on_host = weights.weights_per_gpu(preset, dtype=dtype)
    beside = overhead.CPU_RUNTIME_BYTES + overhead.lora_slots(
        preset, adapters=options.adapters, rank=options.max_lora_rank, tensor_parallel=1, pipeline_parallel=1
    )
    left = machine.memory_bytes - options.replicas * (on_host + beside)
    floor = options.context_length_tokens or min(preset.max_model_len, 2048)

    def sequence(tokens: int) -> int:
        return kv_cache.sequence_bytes(preset.shape, tokens, element_bytes=element)

    share = min(overhead.CPU_KV_LIMIT_BYTES, int(left * overhead.CPU_KV_SHARE) // options.replicas)
    room = options.kv_cache_bytes or max(share, min(sequence(floor), left // options.replicas))
    if room < sequence(floor) or room * options.replicas > left:
        need = options.replicas * (on_host + beside + sequence(floor))
        raise DoesNotFit(
            f"{preset.name} needs {_gib(need)} of memory at {floor} tokens on {machine.instance_type}, which has "
            f"{_gib(machine.memory_bytes)}; use a smaller model, a shorter context or a larger machine"
        )
    limit = min(preset.max_model_len, CPU_CONTEXT_TOKENS)
    context = options.context_length_tokens or _longest(limit, floor, lambda tokens: sequence(tokens) <= room)
    return ServingPlan(
        preset=preset,
        machine=machine,
        nodes=1,
        tensor_parallel=1,
        pipeline_parallel=1,
        data_parallel=1,
        dtype=dtype,
        kv_cache_dtype=options.kv_cache_dtype,
        context_length_tokens=context,
        concurrent_sequences=room // max(1, sequence(context)),
        memory=MemoryParts(
            total_bytes=machine.memory_bytes,
            weights_bytes=on_host,
            kv_cache_bytes=room,
            overhead_bytes=beside,
        ),
        memory_utilization=1.0,
        why=(
            f"1 machine: weights of {_gib(on_host)} fit its memory of {_gib(machine.memory_bytes)}",
            f"KV cache {_gib(room)}: "
            + ("as asked" if options.kv_cache_bytes else "a quarter of the memory that is left, at most 4 GiB"),
            dtype_why,
            _context_why(preset, options, context),
        ),
    )


def _kv_dtype(preset: ModelPreset, options: ServingOptions) -> str:
    if options.kv_cache_dtype != "auto":
        return options.kv_cache_dtype
    return str(preset.engine_args.get("kv_cache_dtype", "auto"))


def _longest(limit: int, floor: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number of tokens up to `limit` that holds, in whole cache blocks; `floor` is known to."""
    if holds(limit):
        return limit
    low, high = floor // kv_cache.BLOCK_TOKENS, limit // kv_cache.BLOCK_TOKENS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle * kv_cache.BLOCK_TOKENS) else (low, middle)
    return max(floor, low * kv_cache.BLOCK_TOKENS)


def _split_why(machine: Machine, fit: _Fit) -> tuple[str, ...]:
    split = fit.split
    nodes = "1 machine" if split.nodes == 1 else f"{split.nodes} machines"
    lines = [f"{nodes}: {_gib(fit.weights)} of weights and {_gib(fit.kv)} of KV cache on each GPU"]
    if split.tensor_parallel > 1:
        lines.append(f"tensor parallel {split.tensor_parallel}: the smallest that fits and divides the heads")
    if split.pipeline_parallel > 1:
        lines.append(f"pipeline parallel {split.pipeline_parallel}: layers are divided where heads cannot be")
    if split.data_parallel > 1:
        lines.append(f"data parallel {split.data_parallel}: the other GPUs of {machine.instance_type} serve copies")
    return tuple(lines)


def _context_why(preset: ModelPreset, options: ServingOptions, context: int) -> str:
    if options.context_length_tokens:
        return f"context {context} tokens: as asked"
    if context == preset.max_model_len:
        return f"context {context} tokens: all that {preset.name} can"
    return f"context {context} tokens of {preset.max_model_len}: what one sequence can use on this machine"


def _remedy(preset: ModelPreset, machine: Machine, last: _Fit | None, budget: int, floor: int) -> str:
    words = f"{preset.name} does not fit {machine.instance_type} ({machine.gpu}) at {floor} tokens"
    if last is None:
        return f"{words}; use a machine with more GPUs"
    need = last.weights + last.overhead + last.sequence
    return (
        f"{words}: split as far as its layers allow it still needs {_gib(need)} per GPU, of which {_gib(budget)} are "
        "usable; use a GPU with more memory or a shorter context"
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
