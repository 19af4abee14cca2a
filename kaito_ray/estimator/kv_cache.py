"""Bytes of the KV cache, by kind of attention.

The unit is one GPU: tensor parallelism divides the KV heads until each rank holds one, and copies them beyond;
a latent (MLA) is the same on every rank; pipeline parallelism divides the layers.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from kaito_ray.catalog.models import FullAttention, LatentAttention, LayerGroup, ModelShape, SlidingAttention

DTYPE_BYTES: Final = {"bfloat16": 2, "float16": 2, "float32": 4, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
BLOCK_TOKENS: Final = 16
"""Tokens of a cache block. Source: vLLM `CacheConfig.DEFAULT_BLOCK_SIZE`."""
DEFAULT_BATCHED_TOKENS: Final = 8192
"""Most tokens of one engine step on a data-centre GPU. Source: vLLM `EngineArgs`, usage context API server."""


def kv_element_bytes(kv_cache_dtype: str, dtype: str) -> int:
    """Return the bytes of one cached number; `auto` follows the model's type.

    Raises:
        ValueError: the type is unknown.
    """
    name = dtype if kv_cache_dtype == "auto" else kv_cache_dtype
    if name not in DTYPE_BYTES:
        raise ValueError(f"kv-cache-dtype {name!r} is unknown; use auto, {', '.join(sorted(DTYPE_BYTES))}")
    return DTYPE_BYTES[name]


def layer_token_bytes(group: LayerGroup, *, element_bytes: int = 2, tensor_parallel: int = 1) -> int:
    """Return the bytes that one layer of the group keeps of one token, on one GPU.

    Full and sliding attention: KV heads of the rank x (key + value dimension) x bytes. Latent: (rank + rope) x bytes.
    Example: Llama-3.1-8B (8 KV heads, head dimension 128, bfloat16) keeps 4096 on one GPU, 512 of eight.
    """
    match group:
        case LatentAttention():
            return (group.kv_lora_rank + group.rope_dim) * element_bytes
        case FullAttention():
            elements = group.head_dim + (group.value_dim or group.head_dim)
        case SlidingAttention():
            elements = 2 * group.head_dim
    return ceil(group.kv_heads / tensor_parallel) * elements * element_bytes


def tokens_kept(group: LayerGroup, context_tokens: int, *, batched_tokens: int = DEFAULT_BATCHED_TOKENS) -> int:
    """Return how many tokens of a sequence of that length a layer keeps, in whole blocks.

    A sliding window keeps its last tokens and those of the step under way, and one block more because a window
    does not start on a block's edge. Source: vLLM `SlidingWindowSpec.max_memory_usage_bytes`.
    """
    if isinstance(group, SlidingAttention):
        kept = min(group.window_tokens - 1 + batched_tokens, context_tokens)
        return (ceil(kept / BLOCK_TOKENS) + 1) * BLOCK_TOKENS
    return ceil(context_tokens / BLOCK_TOKENS) * BLOCK_TOKENS


def sequence_bytes(
    shape: ModelShape,
    context_tokens: int,
    *,
    element_bytes: int = 2,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    batched_tokens: int = DEFAULT_BATCHED_TOKENS,
) -> int:
    """Return the bytes that one sequence of that length needs on the fullest GPU.

    Example: Llama-3.1-8B at 8192 tokens in bfloat16 on one GPU needs exactly 1 GiB.
    """
    return sum(
        ceil(group.layers / pipeline_parallel)
        * layer_token_bytes(group, element_bytes=element_bytes, tensor_parallel=tensor_parallel)
        * tokens_kept(group, context_tokens, batched_tokens=batched_tokens)
        for group in shape.groups
    )
