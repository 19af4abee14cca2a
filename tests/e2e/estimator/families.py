"""config.json excerpts of the presets -> ones that vLLM builds here, and why some are not built.

The CPU build has no vision packages, so a model with a tower is built as its text model; quantisation is dropped,
because it does not change what the cache keeps; layers of experts are left out where the CPU build lacks their kernels.
"""

from __future__ import annotations

from typing import Any

TEXT_MODELS = {
    "Gemma3ForConditionalGeneration": ("Gemma3ForCausalLM", "gemma3_text"),
    "Gemma4ForConditionalGeneration": ("Gemma4ForCausalLM", "gemma4_text"),
    "Gemma4UnifiedForConditionalGeneration": ("Gemma4ForCausalLM", "gemma4_text"),
    "Mistral3ForConditionalGeneration": ("MistralForCausalLM", "mistral"),
    "MistralLarge3ForCausalLM": ("DeepseekV3ForCausalLM", "deepseek_v3"),
    "KimiK25ForConditionalGeneration": ("DeepseekV3ForCausalLM", "deepseek_v3"),
    "NemotronH_Nano_VL_V2": ("NemotronHForCausalLM", "nemotron_h"),
    "Qwen3_5ForConditionalGeneration": ("Qwen3NextForCausalLM", "qwen3_next"),
    "Qwen3_5MoeForConditionalGeneration": ("Qwen3NextForCausalLM", "qwen3_next"),
}
"""Architecture -> the text model with the same layers (Qwen 3.5's delta-net layers are Qwen3-Next's)."""

NOT_BUILT = {
    "DeepseekV32ForCausalLM": "sparse attention is not in the CPU build",
    "GlmMoeDsaForCausalLM": "sparse attention is not in the CPU build",
    "DeepseekV4ForCausalLM": "compressed sparse attention is not in the CPU build",
}
"""Architectures whose cache cannot be shown here, and why."""

NOT_BUILT_SPLIT = {("gpt-oss-20b", 4), ("gpt-oss-120b", 4)}
"""Presets and tensor-parallel degrees for which the CPU build has no kernel for the experts."""

WEIGHTS_NOT_COMPARED = {
    "quantised": "packed weights are built for GPUs only",
    "vision": "the catalog's size counts the vision or audio tower, which is not built here",
    "experts": "the config excerpt does not list what the experts need, or the CPU build lacks them",
    "excerpt": "the excerpt lacks the feed-forward size",
}


def buildable(config: dict[str, Any]) -> dict[str, Any] | None:
    """A config.json for vLLM's CPU build with the same attention, or None where there is none."""
    architecture = config["architectures"][0]
    if architecture in NOT_BUILT:
        return None
    text = {**config, **(config.get("text_config") or config.get("llm_config") or {})}
    for key in ("text_config", "llm_config", "quantization_config"):
        text.pop(key, None)
    if architecture == "Mistral3ForConditionalGeneration" and "kv_lora_rank" in text:
        architecture = "MistralLarge3ForCausalLM"
    name, model_type = TEXT_MODELS.get(architecture, (architecture, text["model_type"]))
    text.update(architectures=[name], model_type=model_type, torch_dtype="bfloat16")
    match name:
        case "MistralForCausalLM":
            text.setdefault("sliding_window", None)
        case "MiniMaxM2ForCausalLM":
            text.update(rotary_dim=64, scoring_func="sigmoid", use_qk_norm=True, use_routing_bias=True)
        case "NemotronHForCausalLM":
            pattern = text.pop("hybrid_override_pattern", None) or _pattern(text.pop("layers_block_type"))
            text["hybrid_override_pattern"] = pattern.replace("E", "-")
        case "Gemma4ForCausalLM":
            if not text.get("num_kv_shared_layers"):
                text["hidden_size_per_layer_input"] = 0
            if text.get("num_global_key_value_heads"):
                text["attention_k_eq_v"] = True
            text["enable_moe_block"] = bool(text.get("num_experts"))
        case "Qwen3NextForCausalLM":
            # With few experts: only what the layers keep is asked for.
            text.update(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=64, mamba_ssm_dtype="float32")
    return text


def why_weights_are_not_compared(preset: Any, config: dict[str, Any]) -> str | None:
    """The reason, or None where the engine's own sum of parameters can be held against the preset's size."""
    text = {**config, **(config.get("text_config") or config.get("llm_config") or {})}
    if preset.quantization:
        return WEIGHTS_NOT_COMPARED["quantised"]
    if text is not config and ("text_config" in config or "llm_config" in config):
        return WEIGHTS_NOT_COMPARED["vision"]
    if "E" in text.get("hybrid_override_pattern", "") or "layers_block_type" in text or "moe_intermediate_size" in text:
        return WEIGHTS_NOT_COMPARED["experts"]
    if not text.get("intermediate_size"):
        return WEIGHTS_NOT_COMPARED["excerpt"]
    return None


def _pattern(kinds: list[str]) -> str:
    return "".join({"mamba": "M", "attention": "*"}.get(kind, "-") for kind in kinds)
