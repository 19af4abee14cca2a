"""The sentences of a plan: why this, and what would fit where nothing does."""

from __future__ import annotations

from collections.abc import Iterable

from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.estimator.fit import Fit
from kaito_ray.estimator.options import CUDA_13, EngineImage, ServingOptions


def gib(count: int) -> str:
    """Return bytes in words: `13.7 GiB`."""
    return f"{count / 2**30:.1f} GiB"


def of_machine(machine: Machine, refusal: Exception) -> str:
    """Return a refusal that begins with the machine it is about."""
    words = str(refusal)
    return words if words.startswith(f"{machine.instance_type}: ") else f"{machine.instance_type}: {words}"


def shortly(machine: Machine, refusal: Exception) -> str:
    """Return the same without its remedy."""
    return of_machine(machine, refusal).partition("; ")[0]


def dtype(preset: ModelPreset, machine: Machine, options: ServingOptions, chosen: str) -> str:
    """Return why activations have that type."""
    if options.dtype:
        return f"dtype {chosen}: as asked"
    if chosen == preset.dtype:
        return f"dtype {chosen}: the model's own"
    breaks = f", and {preset.name} overflows in float16" if chosen == "float32" else ""
    return f"dtype {chosen}: {machine.gpu_model} has no {preset.dtype}{breaks}"


def context(preset: ModelPreset, options: ServingOptions, tokens: int, *, limit: int, limit_why: str) -> str:
    """Return why the context has that length; `limit` is the most that was aimed for, and `limit_why` says why."""
    if options.context_length_tokens:
        return f"context {tokens} tokens: as asked"
    if tokens == limit:
        return f"context {tokens} tokens: {limit_why}"
    return f"context {tokens} tokens of {preset.max_model_len}: what one sequence can use here"


def image(used: EngineImage) -> Iterable[str]:
    """Yield what must be known of the engine image, where it is not the one that is shipped."""
    if used != CUDA_13:
        shipped = "for the plan only: kaito-ray ships no such image" if used.vendor != CUDA_13.vendor else "your own"
        yield f"engine image {used.name}: {shipped}"


def split(machine: Machine, chosen: Fit) -> Iterable[str]:
    """Yield why the work is divided as it is."""
    way = chosen.split
    machines = "1 machine" if way.nodes == 1 else f"{way.nodes} machines"
    yield f"{machines}: {gib(chosen.weights)} of weights and {gib(chosen.kv)} of KV cache on each GPU"
    if way.tensor_parallel > 1:
        yield f"tensor parallel {way.tensor_parallel}: the smallest that fits and divides the heads"
    if way.pipeline_parallel > 1 and way.nodes > 1:
        yield f"pipeline parallel {way.pipeline_parallel}: stages across machines exchange little, networks are slow"
    elif way.pipeline_parallel > 1:
        yield f"pipeline parallel {way.pipeline_parallel}: the heads cannot be divided further, the layers can"
    if way.data_parallel > 1:
        yield f"data parallel {way.data_parallel}: the other GPUs of {machine.instance_type} serve copies"
