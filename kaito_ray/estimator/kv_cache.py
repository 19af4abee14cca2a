"""Bytes of the KV cache, by kind of layer, as vLLM allocates them.

The unit is one GPU: tensor parallelism divides the KV heads until each rank holds one, and copies them beyond; a latent
(MLA) and an indexer's keys are the same on every rank; pipeline parallelism divides the layers.

vLLM keeps one pool of equal blocks. A model whose layers differ (full and sliding, attention and state) is cut into
groups of equally many layers that take blocks from that pool in turn, so pages are brought to one size and the last
group of a kind may be padded. `sequence_bytes` follows that, because it is what admission to the cache counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, NamedTuple

from kaito_ray.catalog.models import (
    DeltaNet,
    FullAttention,
    LatentAttention,
    LayerGroup,
    Mamba,
    ModelShape,
    SlidingAttention,
    SparseIndex,
)
from kaito_ray.errors import InvalidWorkspace

DTYPE_BYTES: Final = {
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "fp8_ds_mla": 1,
}
STATE_BYTES: Final = 4
"""Bytes of an element of a recurrent state: the models ask for float32. Source: `mamba_ssm_dtype` in their configs."""
STATES_PER_SEQUENCE: Final = 2
"""A sequence's state and the last one saved for prefix caching. Source: vLLM `mamba_cache_mode` "align"."""


@dataclass(frozen=True)
class CacheLayout:
    """How the engine keeps the cache on one device."""

    element_bytes: int = 2
    """Bytes of a cached number."""
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    batched_tokens: int = 2048
    """Most tokens of one engine step. Source: vLLM's default below 70 GiB of GPU memory."""
    concurrent_steps: int = 2
    """Engine steps in flight: scheduling runs one ahead. Source: vLLM `VllmConfig.max_concurrent_batches`."""
    block_tokens: int = 16
    """Tokens of a cache block. Source: vLLM `CacheConfig`; 128 on a CPU."""
    window_block_tokens: int = 16
    """The same for sliding windows, which start from the smallest block that kernels take; 32 on a CPU."""

    @property
    def in_flight_tokens(self) -> int:
        """Tokens that are scheduled but not yet settled; a sliding window cannot let go of them."""
        return self.batched_tokens * (self.concurrent_steps + self.pipeline_parallel - 1)


def kv_element_bytes(kv_cache_dtype: str, dtype: str) -> int:
    """Return the bytes of one cached number; `auto` follows the model's type.

    Raises:
        InvalidWorkspace: the type is unknown, or packs its numbers in a way that is not planned for.
    """
    name = dtype if kv_cache_dtype == "auto" else kv_cache_dtype
    if name not in DTYPE_BYTES:
        raise InvalidWorkspace(
            "inference.config", f"kv-cache-dtype {name!r} cannot be planned; use auto, {', '.join(DTYPE_BYTES)}"
        )
    return DTYPE_BYTES[name]


def token_bytes(group: LayerGroup, layout: CacheLayout) -> float:
    """Return the bytes that one layer keeps of one token, on one GPU; 0 for layers that keep a state instead.

    Full and sliding attention: KV heads of the rank x 2 (key and value) x head dimension x bytes.
    Latent: (rank + rope dimension) x bytes, or the packed form in 8 bits; divided by the tokens that share it.
    Index: 1 byte an element, and 4 for the scale of 128 of them.
    Example: Llama-3.1-8B (8 KV heads, head dimension 128, bfloat16) keeps 4096 on one GPU and 512 on each of eight.
    """
    match group:
        case FullAttention() | SlidingAttention():
            return ceil(group.kv_heads / layout.tensor_parallel) * 2 * group.head_dim * layout.element_bytes
        case LatentAttention():
            packed = group.packed_bytes if layout.element_bytes == 1 else None
            entry = packed or (group.kv_lora_rank + group.rope_dim) * layout.element_bytes
            return entry / group.tokens_per_entry
        case SparseIndex():
            return (group.key_dim + group.key_dim // 128 * 4) / group.tokens_per_entry
        case Mamba() | DeltaNet():
            return 0


def state_bytes(group: LayerGroup, layout: CacheLayout) -> int:
    """Return the bytes of one layer's recurrent state, on one GPU; 0 for layers that keep tokens instead.

    Convolution inputs in 16 bits, and the state itself in 32.
    Example: Nemotron-Nano-9B-v2 (128 heads of 80, state 128, 8 groups, kernel 4) keeps 5316608 on one GPU.
    """
    ranks = layout.tensor_parallel
    match group:
        case Mamba():
            shared = group.groups if group.groups % ranks == 0 else ranks
            conv = (group.heads * group.head_dim + 2 * shared * group.state_size) // ranks
            state = group.heads // ranks * group.head_dim * group.state_size
        case DeltaNet():
            conv = (2 * group.key_heads * group.key_dim + group.value_heads * group.value_dim) // ranks
            state = group.value_heads // ranks * group.value_dim * group.key_dim
        case _:
            return 0
    return conv * (group.conv_kernel - 1) * 2 + state * STATE_BYTES


def sequence_bytes(shape: ModelShape, tokens: int, layout: CacheLayout) -> int:
    """Return the bytes of the pool that one sequence of that length takes, on the fullest GPU.

    Source: vLLM `_max_memory_usage_bytes_from_groups`.
    Example: Llama-3.1-8B at 8192 tokens in bfloat16 on one GPU takes exactly 1 GiB.
    """
    if not shape.groups:
        return 0
    if _is_uniform(shape):
        return ceil(sum(_own_bytes(g, tokens, layout) for g in shape.groups))
    return _pooled_bytes(shape, tokens, layout)


def _own_bytes(group: LayerGroup, tokens: int, layout: CacheLayout) -> float:
    layers = ceil(group.layers / layout.pipeline_parallel)
    block = _block_tokens(group, layout)
    return layers * token_bytes(group, layout) * _blocks(group, tokens, block, layout) * block


def _pooled_bytes(shape: ModelShape, tokens: int, layout: CacheLayout) -> int:
    """Bytes where several kinds of layers take blocks of one size from one pool."""
    kinds = [
        _Kind(g, ceil(g.layers / layout.pipeline_parallel), int(token_bytes(g, layout)), state_bytes(g, layout))
        for g in shape.groups
    ]
    page = _page_bytes(kinds, layout)
    per_group = _layers_per_group([kind.layers for kind in kinds])
    groups_times_blocks = (ceil(k.layers / per_group) * _blocks_of_page(k, tokens, page, layout) for k in kinds)
    return page * per_group * sum(groups_times_blocks)


class _Kind(NamedTuple):
    group: LayerGroup
    layers: int
    token_bytes: int
    state_bytes: int


def _page_bytes(kinds: Sequence[_Kind], layout: CacheLayout) -> int:
    """The size that all pages are brought to: the largest, where attention's grow until a state fits."""
    state = max(k.state_bytes for k in kinds)
    attention = [(k.token_bytes, _block_tokens(k.group, layout)) for k in kinds if k.token_bytes]
    return max(each * block * max(1, ceil(state / (each * block))) for each, block in attention)


def _blocks_of_page(kind: _Kind, tokens: int, page: int, layout: CacheLayout) -> int:
    if kind.state_bytes:
        return STATES_PER_SEQUENCE
    block = _block_tokens(kind.group, layout)
    if page % (block * kind.token_bytes) == 0:
        block = page // kind.token_bytes
    return _blocks(kind.group, tokens, block, layout)


def _block_tokens(group: LayerGroup, layout: CacheLayout) -> int:
    return layout.block_tokens if window_of(group) is None else layout.window_block_tokens


def _layers_per_group(counts: list[int]) -> int:
    """Layers that share a block: the rarest kind's, or the commonest's where they nearly agree. Source: vLLM."""
    return max(counts) if max(counts) < 1.5 * min(counts) else min(counts)


def _blocks(group: LayerGroup, tokens: int, block_tokens: int, layout: CacheLayout) -> int:
    """Blocks that a layer takes of a sequence.

    A window keeps its last tokens and those in flight, and one block more because it does not start on a block's edge.
    Source: vLLM `SlidingWindowSpec.max_admission_blocks_per_request`.
    """
    window = window_of(group)
    if window is None:
        return ceil(tokens / block_tokens)
    return ceil(min(window - 1 + layout.in_flight_tokens, tokens) / block_tokens) + 1


def window_of(group: LayerGroup) -> int | None:
    """Return how many tokens the layers keep, or None where they keep all, or a state."""
    return group.window_tokens if isinstance(group, SlidingAttention | LatentAttention) else None


def _is_uniform(shape: ModelShape) -> bool:
    """Whether every layer keeps the same tokens, so that pages of different sizes simply add up.

    Latent layers that compress along the sequence are packed side by side, which comes to the same.
    """
    kinds = {(window_of(g), isinstance(g, Mamba | DeltaNet)) for g in shape.groups}
    return len(kinds) == 1 or any(isinstance(g, LatentAttention) for g in shape.groups)
