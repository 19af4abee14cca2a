"""`inference_config.yaml`: engine options of a Workspace's ConfigMap, checked and sorted.

Some change the plan, most go to the engine as they are, and those that belong to another field of the Workspace, that
open a door, or that nobody knows, are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import UnionType
from typing import Any, Final

import yaml

from kaito_ray.errors import InvalidWorkspace

KEY: Final = "inference_config.yaml"
"""The key of the ConfigMap."""

PLANNED: Final[Mapping[str, type | UnionType]] = {
    "max_model_len": int,
    "dtype": str,
    "kv_cache_dtype": str,
    "gpu_memory_utilization": int | float,
    "max_num_batched_tokens": int,
    "tensor_parallel_size": int,
    "pipeline_parallel_size": int,
    "max_lora_rank": int,
}
"""Options that the planner computes with; the plan carries them to the engine."""

ENGINE: Final[Mapping[str, type | UnionType]] = {
    "async_scheduling": bool,
    "attention_backend": str,
    "block_size": int,
    "compilation_config": dict | int,
    "cpu_offload_gb": int | float,
    "disable_cascade_attn": bool,
    "disable_custom_all_reduce": bool,
    "disable_sliding_window": bool,
    "enable_chunked_prefill": bool,
    "enable_expert_parallel": bool,
    "enable_prefix_caching": bool,
    "enforce_eager": bool,
    "fully_sharded_loras": bool,
    "generation_config": str,
    "hf_overrides": dict,
    "kv_cache_memory_bytes": int,
    "language_model_only": bool,
    "limit_mm_per_prompt": dict,
    "load_format": str,
    "logprobs_mode": str,
    "long_prefill_token_threshold": int,
    "max_cpu_loras": int,
    "max_logprobs": int,
    "max_loras": int,
    "max_num_seqs": int,
    "mm_processor_cache_gb": int | float,
    "mm_processor_kwargs": dict,
    "moe_backend": str,
    "num_gpu_blocks_override": int,
    "optimization_level": int,
    "override_generation_config": dict,
    "performance_mode": str,
    "prefix_caching_hash_algo": str,
    "quantization": str,
    "reasoning_config": dict,
    "scheduling_policy": str,
    "seed": int,
    "speculative_config": dict,
    "stream_interval": int,
    "structured_outputs_config": dict,
    "tokenizer_mode": str,
    # Options of the HTTP front end.
    "chat_template_content_format": str,
    "default_chat_template_kwargs": dict,
    "enable_auto_tool_choice": bool,
    "enable_prompt_tokens_details": bool,
    "reasoning_parser": str,
    "response_role": str,
    "tool_call_parser": str,
}
"""Options that the engine gets as they are."""

_ELSEWHERE: Final[Mapping[str, str]] = {
    "api_key": "inference.apiKeysSecret",
    "chat_template": "the preset",
    "code_revision": "inference.preset.revision",
    "data_parallel_size": "the planner",
    "enable_lora": "inference.adapters",
    "hf_token": "inference.preset.presetOptions.modelAccessSecret",
    "lora_modules": "inference.adapters",
    "model": "inference.preset.name",
    "revision": "inference.preset.revision",
    "served_model_name": "inference.preset.name",
    "tokenizer": "inference.preset.name",
    "trust_remote_code": "inference.preset.trustRemoteCode",
}
"""Options that another place decides."""

_KAITO_ONLY: Final[Mapping[str, str]] = {
    "kv_cache_cpu_memory_utilization": "the KV cache is not offloaded to host memory",
    "max_probe_steps": "the context is computed, not probed for",
}


@dataclass(frozen=True)
class InferenceConfig:
    """Engine options by vLLM's Python names."""

    planned: Mapping[str, Any] = field(default_factory=dict)
    """See `PLANNED`."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """See `ENGINE`."""


def parse(config_map: Mapping[str, Any]) -> InferenceConfig:
    """Return the options of the ConfigMap.

    Raises:
        InvalidWorkspace: the key is missing, the text is no YAML, or an option is refused; the message names it.
    """
    where = f"inference.config ({config_map['metadata']['name']})"
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        raise InvalidWorkspace(where, f"the ConfigMap has no key {KEY}; add it")
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InvalidWorkspace(where, f"{KEY} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidWorkspace(where, f"{KEY} must be a mapping with the key `vllm`")
    for key in document.keys() - {"vllm"}:
        why = _KAITO_ONLY.get(key, "it is not an option here; options of the engine go under `vllm`")
        raise InvalidWorkspace(f"{where} {key}", f"{why}; remove it")
    options = document.get("vllm") or {}
    if not isinstance(options, dict):
        raise InvalidWorkspace(f"{where} vllm", "it must be a mapping of engine options")
    named = {str(key).replace("-", "_"): value for key, value in options.items()}
    for name, value in named.items():
        _check(f"{where} vllm.{name}", name, value)
    return InferenceConfig(
        planned={name: named[name] for name in sorted(named) if name in PLANNED},
        engine={name: named[name] for name in sorted(named) if name in ENGINE},
    )


def _check(where: str, name: str, value: Any) -> None:
    if name in _ELSEWHERE:
        raise InvalidWorkspace(where, f"{_ELSEWHERE[name]} decides it; remove it here")
    expected = PLANNED.get(name) or ENGINE.get(name)
    if expected is None:
        near = get_close_matches(name, [*PLANNED, *ENGINE], n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "remove it"
        raise InvalidWorkspace(where, f"it is not among the engine options that may be set here; {hint}")
    # bool is an int to Python, but never what somebody meant by a number.
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        words = expected.__name__ if isinstance(expected, type) else str(expected).replace("|", "or")
        raise InvalidWorkspace(where, f"{value!r} is not of type {words}")
