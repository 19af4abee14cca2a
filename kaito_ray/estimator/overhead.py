"""What a device holds beside weights and KV cache. Each constant says where it comes from."""

from __future__ import annotations

from math import ceil
from typing import Final

from kaito_ray.catalog.models import ModelShape

GIB: Final = 2**30

UTILIZATION: Final = 0.90
"""Share of a GPU's memory that the engine may use; the rest is for fragmentation and for what others allocate.
vLLM's own default is 0.92; KAITO's 0.84 was of the size on the box, ours is of what the driver reports."""
RUNTIME_BYTES: Final = int(0.6 * GIB)
"""CUDA context, libraries, NCCL buffers. Source: KAITO v0.12 estimator."""
ACTIVATION_BYTES: Final = int(1.7 * GIB)
"""Activations of one step and CUDA graphs. Source: KAITO v0.12 estimator."""
WEIGHT_SHARE: Final = 0.05
"""Part that grows with the model. Source: KAITO v0.12 estimator."""

CPU_RUNTIME_BYTES: Final = int(2.5 * GIB)
"""Ray, the replica and the engine on a CPU, beside weights and cache: an allowance, rounded up from what a replica of
a small model takes."""
CPU_KV_SHARE: Final = 0.25
CPU_KV_LIMIT_BYTES: Final = 4 * GIB
"""On a CPU the cache takes a quarter of what is left, and at most 4 GiB: the machine is somebody's laptop."""
CPU_KV_SHARED_LIMIT_BYTES: Final = GIB // 2
"""The same for each of several replicas that share the machine."""


def gpu_overhead(weights_bytes: int) -> int:
    """Return the bytes of runtime, activations and graphs beside that many bytes of weights on a GPU."""
    return RUNTIME_BYTES + ACTIVATION_BYTES + int(WEIGHT_SHARE * weights_bytes)


def lora_slots(
    shape: ModelShape, *, adapters: int, rank: int, tensor_parallel: int = 1, pipeline_parallel: int = 1
) -> int:
    """Return the bytes that the engine sets aside for adapters on one GPU, in 16-bit numbers.

    A slot holds A (rank x in) and B (out x rank) of a layer's seven projections. Where the outputs are divided, A is
    whole on every rank and B is divided; where the inputs are (o and down), the other way round. Both embeddings have
    slots too, whole on every rank; some families (Qwen, Mistral) lack them, so theirs is an upper bound. The feed-forward width
    is taken as four times the hidden size where the preset does not say.
    Source: vLLM `LoRAModelManager` without fully sharded LoRAs.
    Example: Llama-3.1-8B, 1 adapter of rank 16 on one GPU: 92356608.
    """
    hidden = shape.hidden_size
    wide = shape.intermediate_size or 4 * hidden
    queries, kv = shape.heads * _head_dim(shape), _kv_width(shape)
    whole = 3 * hidden + hidden + 2 * hidden + hidden
    divided = (queries + 2 * kv) + queries + 2 * wide + wide
    layers = ceil(shape.layers / pipeline_parallel) * (whole + ceil(divided / tensor_parallel))
    embeddings = 2 * ((shape.vocab_size or 0) + hidden)
    return adapters * rank * 2 * (layers + embeddings)


def _head_dim(shape: ModelShape) -> int:
    dims = [g.head_dim for g in shape.groups if g.kind in {"full", "sliding"}]
    return max(dims, default=ceil(shape.hidden_size / shape.heads))


def _kv_width(shape: ModelShape) -> int:
    widths = [g.kv_heads * g.head_dim for g in shape.groups if g.kind in {"full", "sliding"}]
    return max(widths, default=shape.hidden_size)
