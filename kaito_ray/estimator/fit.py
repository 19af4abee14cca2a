"""What one GPU holds under a split, and how long a context it leaves room for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kaito_ray.catalog.models import ModelPreset
from kaito_ray.estimator import overhead
from kaito_ray.estimator.kv_cache import CacheLayout, kv_element_bytes, sequence_bytes, window_of
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.split import Split
from kaito_ray.estimator.weights import weights_per_gpu


@dataclass(frozen=True)
class Fit:
    """The parts of one GPU's memory, in bytes."""

    split: Split
    layout: CacheLayout
    weights: int
    overhead: int
    kv: int
    """Left for the KV cache; negative where not even the weights fit."""

    def holds(self, preset: ModelPreset, tokens: int, sequences: int = 1) -> bool:
        """Return whether the cache takes that many sequences of that length; an exact fit fits."""
        return self.kv >= sequences * sequence_bytes(preset.shape, tokens, self.layout)


def fit(preset: ModelPreset, split: Split, options: ServingOptions, *, budget_bytes: int, dtype: str) -> Fit:
    """Return what one GPU holds, of which the engine may use `budget_bytes`."""
    tp, pp = split.tensor_parallel, split.pipeline_parallel
    on_gpu = weights_per_gpu(preset, dtype=dtype, tensor_parallel=tp, pipeline_parallel=pp)
    beside = overhead.gpu_overhead(on_gpu)
    if options.adapters:
        beside += overhead.lora_slots(
            preset.shape,
            adapters=options.adapters,
            rank=options.max_lora_rank,
            tensor_parallel=tp,
            pipeline_parallel=pp,
        )
    layout = CacheLayout(
        element_bytes=kv_element_bytes(kv_cache_dtype(preset, options), dtype),
        tensor_parallel=tp,
        pipeline_parallel=pp,
        batched_tokens=batched_tokens(preset, options) or CacheLayout.batched_tokens,
    )
    return Fit(split, layout, on_gpu, beside, budget_bytes - on_gpu - beside)


def at_once(kv_bytes: int, sequence: int, tokens: int, layout: CacheLayout) -> int:
    """Return how many sequences of that many tokens the cache takes; of an encoder, which has none, one step does."""
    return kv_bytes // sequence if sequence else max(1, layout.batched_tokens // tokens)


def batched_tokens(preset: ModelPreset, options: ServingOptions) -> int | None:
    """Return the most tokens of one engine step, or None where the engine's own default does.

    A sliding window cannot let go of tokens that are still under way, so models that have one are given short steps:
    the engine's default on a large GPU, four times as long, would cost more cache than it saves time.
    """
    windowed = any(window_of(group) for group in preset.shape.groups)
    return options.max_batched_tokens or (CacheLayout.batched_tokens if windowed else None)


def kv_cache_dtype(preset: ModelPreset, options: ServingOptions) -> str:
    """Return the cache's type as the engine is told: what was asked for, else what the model needs, else `auto`."""
    if options.kv_cache_dtype != "auto":
        return options.kv_cache_dtype
    return str(preset.engine_args.get("kv_cache_dtype", "auto"))


def longest(limit: int, floor: int, holds: Callable[[int], bool], *, step: int = 16) -> int:
    """Return the largest number of tokens from `floor` (which holds) to `limit` that holds, in whole blocks."""
    if holds(limit):
        return limit
    low, high = floor // step, limit // step + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle * step) else (low, middle)
    return max(floor, low * step)
