"""Memory of a tuning run: whether one worker's model, adapter and activations fit its device.

Workers are data-parallel: each holds the whole base model on one device, so more workers are faster, not roomier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from kaito_ray.api.status import MemoryParts
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UserError
from kaito_ray.estimator import overhead
from kaito_ray.estimator.weights import EMBEDDING_BYTES
from kaito_ray.estimator.why import gib

NF4_BYTES: Final = 4.127 / 8
"""Bytes of a weight in 4-bit NF4 with double quantisation. Source: QLoRA paper (arXiv:2305.14314), section 3."""
ADAPTER_BYTES: Final = 4 + 4 + 8
"""An adapter's weight in float32, its gradient, and Adam's two moments."""
ACTIVATION_BYTES: Final = 2
LOGIT_BYTES: Final = 2 + 4 + 4
"""A logit in 16 bits, its float32 copy for the loss, and its gradient."""
FRAGMENTATION: Final = 0.10
"""Share of the device that is left to the allocator and to others."""
DEFAULT_VOCABULARY: Final = 150_000
"""Where a preset does not say."""


@dataclass(frozen=True)
class TuningOptions:
    """What decides the memory of a run."""

    method: Literal["lora", "qlora"] = "qlora"
    batch_size: int = 1
    """Sequences that one worker handles at once."""
    max_tokens: int = 1024
    """Longest example."""
    rank: int = 8
    """Rank of the adapter."""
    workers: int = 1
    """Data-parallel workers."""


@dataclass(frozen=True)
class TuningPlan:
    """How a model is tuned. Byte figures are per worker."""

    preset: ModelPreset
    machine: Machine
    workers: int
    nodes: int
    memory: MemoryParts
    """`kv_cache_bytes` is 0: training keeps no cache. `overhead_bytes` holds adapter, activations and runtime."""
    why: tuple[str, ...]


def plan_tuning(preset: ModelPreset, machine: Machine, options: TuningOptions) -> TuningPlan:
    """Return the plan for tuning that model on machines of that kind, one worker a device.

    Raises:
        DoesNotFit: one worker needs more memory than its device has; the message says what would help.
        InvalidWorkspace: the model is packed already, so it cannot be tuned.
        UserError: the machine's memory is unknown.
    """
    if preset.quantization is not None:
        raise InvalidWorkspace(
            "tuning.preset.name",
            f"{preset.name} is quantised with {preset.quantization.method}; tune its unquantised original",
        )
    per_node = max(1, machine.gpu_count)
    total = machine.gpu_memory_bytes if machine.device == "cuda" else (machine.memory_bytes or 0)
    if not total:
        raise UserError(f"{machine.instance_type}: its memory is unknown, so nothing can be planned on it")
    weights = base_bytes(preset, options.method)
    trained = adapter_bytes(preset, options)
    activations = activation_bytes(preset, options)
    beside = trained + activations + overhead.RUNTIME_BYTES
    if weights + beside > total * (1 - FRAGMENTATION):
        usable = int(total * (1 - FRAGMENTATION))
        raise DoesNotFit(
            f"{preset.name} with {options.method} needs {gib(weights + beside)} per worker, {machine.instance_type} "
            f"({machine.gpu}) has {gib(usable)} to use; {_remedy(options, weights, activations)}"
        )
    nodes = ceil(options.workers / per_node)
    return TuningPlan(
        preset=preset,
        machine=machine,
        workers=options.workers,
        nodes=nodes,
        memory=MemoryParts(total_bytes=total, weights_bytes=weights, kv_cache_bytes=0, overhead_bytes=beside),
        why=(
            f"{options.method}: {gib(weights)} of base weights on each worker",
            f"adapter of rank {options.rank}: {gib(trained)} with gradient and optimizer",
            f"activations {gib(activations)}: batch {options.batch_size}, {options.max_tokens} tokens, checkpointed",
            f"{options.workers} workers on {nodes} machines: one a device",
        ),
    )


def base_bytes(preset: ModelPreset, method: Literal["lora", "qlora"]) -> int:
    """Return the bytes of the frozen base model: as it is for lora, in 4 bits (but for embeddings) for qlora.

    Example: phi-4 in qlora: 9088824173, of 29323889213.
    """
    if method == "lora":
        return preset.weights_bytes
    shape = preset.shape
    embeddings = (1 if shape.tied_embeddings else 2) * (shape.vocab_size or 0) * shape.hidden_size * EMBEDDING_BYTES
    return ceil((preset.weights_bytes - embeddings) / EMBEDDING_BYTES * NF4_BYTES) + embeddings


def adapter_bytes(preset: ModelPreset, options: TuningOptions) -> int:
    """Return the bytes of an adapter on every projection, with its gradient and optimizer state."""
    slot = overhead.lora_slots(preset.shape, adapters=1, rank=options.rank)
    return slot // 2 * ADAPTER_BYTES


def activation_bytes(preset: ModelPreset, options: TuningOptions) -> int:
    """Return the bytes of activations with gradient checkpointing: one input a layer, one layer at work, the logits."""
    shape = preset.shape
    tokens = options.batch_size * options.max_tokens
    wide = shape.intermediate_size or 4 * shape.hidden_size
    checkpoints = shape.layers * shape.hidden_size * ACTIVATION_BYTES
    at_work = (8 * shape.hidden_size + 4 * wide) * ACTIVATION_BYTES * 2
    logits = (shape.vocab_size or DEFAULT_VOCABULARY) * LOGIT_BYTES
    return tokens * (checkpoints + at_work + logits)


def _remedy(options: TuningOptions, weights: int, activations: int) -> str:
    ways: Sequence[str] = [
        *(["use qlora"] if options.method == "lora" else []),
        *(["shorten the examples or the batch"] if activations > weights // 4 else []),
        "use a GPU with more memory",
    ]
    return ", or ".join(ways)
