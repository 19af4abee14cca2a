"""Bytes of weights on one GPU."""

from __future__ import annotations

from math import ceil
from typing import Final

from kaito_ray.catalog.models import ModelPreset

REPLICATED_SHARE: Final = 0.02
"""Share of the weights that tensor parallelism copies instead of dividing: norms, routers, latent projections,
KV projections beyond the KV heads. Source: KAITO's expansion factor 1.02."""


def weights_per_gpu(preset: ModelPreset, *, dtype: str, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> int:
    """Return the bytes of weights on the fullest GPU.

    Pipeline stages hold whole layers, so the fullest has ceil(layers / stages) of them.
    Example: phi-4 (29323889213 bytes, 40 layers), TP 2: 14955183499.
    """
    total = preset.weights_bytes * _widening(preset, dtype)
    layers = preset.shape.layers
    stage = total * ceil(layers / pipeline_parallel) / layers
    if tensor_parallel == 1:
        return ceil(stage)
    return ceil(stage * (1 + REPLICATED_SHARE) / tensor_parallel)


def _widening(preset: ModelPreset, dtype: str) -> int:
    """Weights that are not packed double when they are asked for in float32."""
    return 2 if dtype == "float32" and preset.dtype != "float32" and preset.quantization is None else 1
