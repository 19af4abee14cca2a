"""What a device holds beside weights and KV cache. Each constant says where it comes from."""

from __future__ import annotations

from typing import Final

from kaito_ray.catalog.models import ModelPreset

GIB: Final = 2**30

UTILIZATION: Final = 0.90
"""Share of a GPU's memory that the engine may use; the rest is for fragmentation and for what others allocate.
vLLM's own default is 0.92."""
RUNTIME_BYTES: Final = int(0.6 * GIB)
"""CUDA context, libraries, NCCL buffers. Source: KAITO v0.12 estimator."""
ACTIVATION_BYTES: Final = int(1.7 * GIB)
"""Activations of one step and CUDA graphs. Source: KAITO v0.12 estimator."""
WEIGHT_SHARE: Final = 0.05
"""Part that grows with the model. Source: KAITO v0.12 estimator."""

CPU_RUNTIME_BYTES: Final = int(2.5 * GIB)
"""Resident memory of Ray, the replica and the engine on a CPU, beside weights and cache. Measured with vLLM 0.29."""
CPU_KV_SHARE: Final = 0.25
CPU_KV_LIMIT_BYTES: Final = 4 * GIB
"""On a CPU the cache takes a quarter of what is left, and at most 4 GiB: the machine is somebody's laptop."""


def gpu_overhead(weights_bytes: int) -> int:
    """Return the bytes of runtime, activations and graphs beside that many bytes of weights on a GPU."""
    return RUNTIME_BYTES + ACTIVATION_BYTES + int(WEIGHT_SHARE * weights_bytes)


def lora_slots(preset: ModelPreset, *, adapters: int, rank: int, tensor_parallel: int, pipeline_parallel: int) -> int:
    """Return the bytes that vLLM sets aside for adapters on one GPU, in 2-byte numbers.

    Each slot holds A (rank x in) and B (out x rank) of the seven projections of a layer; the feed-forward width is
    taken as four times the hidden size.
    """
    shape = preset.shape
    hidden = shape.hidden_size
    projections = 4 * (hidden + hidden) + 3 * (hidden + 4 * hidden)
    layers = -(-shape.layers // pipeline_parallel)
    return adapters * layers * rank * projections * 2 // tensor_parallel
