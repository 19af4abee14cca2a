"""What a person may ask of a plan, and what the engine image can run on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class EngineImage:
    """The border that the engine's build draws: whose GPUs, and how old."""

    name: str
    vendor: str
    min_compute_capability: float
    gpu_models: frozenset[str] | None = None
    """The only GPUs that it runs on; None where the compute capability decides."""


CUDA_13: Final = EngineImage("CUDA 13", "nvidia", 7.5)
"""What `ray[llm]` brings. Source: CUDA 13 release notes: Maxwell, Pascal and Volta are gone."""
CUDA_12: Final = EngineImage("CUDA 12", "nvidia", 7.0)
"""An image that an installation may build for itself, for a V100 of its own."""
ROCM: Final = EngineImage("ROCm", "amd", 0.0, frozenset({"AMD Instinct MI300X"}))
"""For plans only: no such image is shipped. Source: vLLM documentation, which lists no Radeon of the catalog."""


@dataclass(frozen=True)
class ServingOptions:
    """Wishes; what is None is chosen by the planner and explained."""

    context_length_tokens: int | None = None
    """Longest prompt plus completion."""
    dtype: str | None = None
    """bfloat16, float16 or float32."""
    kv_cache_dtype: str = "auto"
    """vLLM's word: auto follows the preset, then `dtype`; or fp8, bfloat16, ..."""
    memory_utilization: float | None = None
    """Share of a GPU's memory that the engine may use."""
    kv_cache_bytes: int | None = None
    """CPU only: memory for the KV cache."""
    max_batched_tokens: int | None = None
    """Most tokens of one engine step."""
    tensor_parallel: int | None = None
    """TP degree, where the manifest fixes it."""
    pipeline_parallel: int | None = None
    """PP degree, where the manifest fixes it."""
    adapters: int = 0
    """LoRA adapters that must be resident at once."""
    max_lora_rank: int = 64
    """Highest rank of any adapter."""
    replicas: int | None = None
    """CPU only: replicas at most that share the machine; None: one, which never gets company."""
    max_nodes: int | None = None
    """Machines at most: those that exist, where none can be bought."""
    image: EngineImage = CUDA_13
    """What the engine image can run on."""
