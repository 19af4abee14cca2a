"""What would fit where nothing does: fewer tokens, fewer bits, more memory."""

from __future__ import annotations

from typing import Final

from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit
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
        f"use a GPU with {gib(ceil_gib((beside + sequence) * machine.gpu_memory_bytes // (beside + best.kv)))} or more",
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


def _fewer_bits(preset: ModelPreset, best: Fit, sequence: int) -> list[str]:
    """A quarter or half of the weights, where they are not packed already."""
    if preset.quantization is not None:
        return []
    for bits in (8, 4):
        if best.kv + best.weights * (16 - bits) // 16 >= sequence:
            return [f"use a variant quantised to {bits} bits"]
    return []
