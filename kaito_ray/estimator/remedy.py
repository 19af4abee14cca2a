"""What would fit where nothing does: fewer tokens, fewer bits, more memory."""

from __future__ import annotations

from typing import Final

from kaito_ray.catalog.gpus import Machine, machines
from kaito_ray.catalog.load import variants
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit
from kaito_ray.estimator import overhead
from kaito_ray.estimator.fit import Fit, longest
from kaito_ray.estimator.kv_cache import sequence_bytes
from kaito_ray.estimator.options import ServingOptions
from kaito_ray.estimator.why import gib

LEAST_USEFUL_TOKENS: Final = 1024
"""A shorter context is not offered as a remedy."""


def does_not_fit(preset: ModelPreset, machine: Machine, options: ServingOptions, best: Fit, tokens: int) -> DoesNotFit:
    """Return the error for a machine where `best`, the roomiest split, does not hold one sequence of `tokens`.

    The message names what is missing and each way out that would work.
    """
    beside = best.weights + best.overhead
    sequence = sequence_bytes(preset.shape, tokens, best.layout)
    ways = [
        *_fewer_tokens(preset, best, tokens),
        *_fewer_bits(preset, best, sequence),
        _next_gpu(machine, options, ceil_gib((beside + sequence) * machine.gpu_memory_bytes // (beside + best.kv))),
    ]
    limit = f" on at most {options.max_nodes} of them" if options.max_nodes else ""
    return DoesNotFit(
        f"{preset.name} does not fit {machine.instance_type} ({machine.gpu}){limit} at {tokens} tokens: each GPU would "
        f"need {gib(beside + sequence)} and may use {gib(beside + best.kv)}; {', or '.join(ways)}"
    )


def ceil_gib(count: int) -> int:
    """Return bytes rounded up to whole GiB."""
    return -(-count // 2**30) * 2**30


def _fewer_tokens(preset: ModelPreset, best: Fit, tokens: int) -> list[str]:
    if not best.holds(preset, LEAST_USEFUL_TOKENS) or tokens <= LEAST_USEFUL_TOKENS:
        return []
    room = longest(tokens, LEAST_USEFUL_TOKENS, lambda t: best.holds(preset, t))
    return [f"set max-model-len to {room} or less"]


def _next_gpu(machine: Machine, options: ServingOptions, need_bytes: int) -> str:
    """The least memory that suffices, and the smallest machine of the same provider that has it, where there is one."""
    larger = [
        other
        for other in machines(machine.provider)
        if other.vendor == machine.vendor
        and not other.retired
        and (other.compute_capability or 0) >= options.image.min_compute_capability
        and set(other.dtypes) >= set(machine.dtypes)
        and other.gpu_count >= machine.gpu_count
        and other.gpu_memory_bytes >= need_bytes
    ]
    least = f"use a GPU with {gib(need_bytes)} or more"
    if not larger:
        return least
    found = min(larger, key=lambda m: (m.gpu_count * m.gpu_memory_bytes, m.cpus or 0, m.instance_type))
    return f"{least}: {found.instance_type} ({found.gpu})"


def _fewer_bits(preset: ModelPreset, best: Fit, sequence: int) -> list[str]:
    """A variant of the catalog that is small enough, else a quarter or half of the weights; none if they are packed."""
    if preset.quantization is not None:
        return []
    for variant in variants(preset.name):
        share = 1 - variant.weights_bytes / preset.weights_bytes
        if variant.quantization is not None and best.kv + _saved(best, share) >= sequence:
            return [f"use {variant.name}, which is quantised"]
    for bits in (8, 4):
        if best.kv + _saved(best, 1 - bits / 16) >= sequence:
            return [f"use a variant quantised to {bits} bits"]
    return []


def _saved(best: Fit, share: float) -> int:
    """What a GPU wins where that share of the weights is gone: the weights, and the overhead that grows with them."""
    return int(best.weights * share * (1 + overhead.WEIGHT_SHARE))
