"""Bytes of weights on one GPU."""

from __future__ import annotations

from math import ceil
from typing import Final

from kaito_ray.catalog.models import ModelPreset, ModelShape

REPLICATED_SHARE: Final = 0.02
"""Share of the weights that tensor parallelism copies instead of dividing: norms, routers, latent projections, KV
projections beyond the KV heads. Source: KAITO's expansion factor 1.02."""
EMBEDDING_BYTES: Final = 2
"""Bytes of an element of the embeddings, which stay in 16 bits in quantised checkpoints too."""


def weights_per_gpu(preset: ModelPreset, *, dtype: str, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> int:
    """Return the bytes of weights on the fullest GPU.

    Without a split that is the checkpoint's size, exactly. Tensor parallelism divides it, but for what it copies.
    Pipeline stages hold whole layers; the first and the last also hold an embedding.
    Example: phi-4 (29323889213 bytes) on one GPU: 29323889213; TP 2: 14955183499.
    """
    total = preset.weights_bytes * _widening(preset, dtype)
    stage = total if pipeline_parallel == 1 else _fullest_stage(preset.shape, total, pipeline_parallel)
    if tensor_parallel == 1:
        return ceil(stage)
    return ceil(stage * (1 + REPLICATED_SHARE) / tensor_parallel)


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Return how many layers each pipeline stage holds.

    What does not divide goes to the stages before the last one. Source: vLLM `get_pp_indices`.
    Example: 61 layers in 4 stages: 15, 15, 16, 15.
    """
    each, rest = divmod(layers, stages)
    return tuple(each + 1 if stages - 1 - rest <= i < stages - 1 else each for i in range(stages))


def _fullest_stage(shape: ModelShape, total: int, stages: int) -> float:
    embedding = (shape.vocab_size or 0) * shape.hidden_size * EMBEDDING_BYTES
    copies = 1 if shape.tied_embeddings else 2
    layer = (total - copies * embedding) / shape.layers
    held = stage_layers(shape.layers, stages)
    return max(max(held) * layer, max(held[0], held[-1]) * layer + embedding)


def _widening(preset: ModelPreset, dtype: str) -> int:
    """Weights that are not packed double when they are asked for in float32."""
    return 2 if dtype == "float32" and preset.dtype != "float32" and preset.quantization is None else 1
