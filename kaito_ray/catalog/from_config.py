"""A model's `config.json` -> its shape, and a preset for any `org/model` of a hub.

Pure: who fetches the file (the operator, the command line) hands its contents in. Families spell the same dimension
differently, so each is looked for under every name that is in use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kaito_ray.api.app_args import ModelSource
from kaito_ray.catalog.models import (
    DeltaNet,
    Dtype,
    FullAttention,
    LatentAttention,
    LayerGroup,
    Mamba,
    ModelPreset,
    ModelShape,
    Quantization,
    SlidingAttention,
    SparseIndex,
)
from kaito_ray.catalog.parsers import reasoning_parser, tool_call_parser
from kaito_ray.errors import InvalidWorkspace

Config = Mapping[str, Any]

_CONTEXT: Final = (
    "max_position_embeddings",
    "n_ctx",
    "seq_length",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
)
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS: Final = ("num_key_value_heads", "n_head_kv", "n_kv_heads")
_HEAD_DIM: Final = ("head_dim", "attention_head_dim")
_FULL_EVERY_SIX: Final = {"gemma3_text", "gemma3", "gemma4_text", "gemma4", "gemma4_unified_text"}
"""Model types that put one full layer after five sliding ones where their config does not list the layers."""
_PATTERN_LETTERS: Final = {"M": "mamba", "*": "full_attention"}
"""Nemotron-H's letters; the others (`-`, `E`) are layers that keep nothing."""
_KINDS: Final = {"attention": "full_attention", "indexed_attention": "full_attention", "mamba2": "mamba"}
_ENCODERS: Final = {"bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert"}
"""Model types that see all of a text at once, and keep nothing between tokens."""
_NOT_IN_FLOAT16: Final = {"gemma2", "gemma3", "gemma3_text", "glm4"}
"""Model types that overflow in float16. Source: vLLM `_FLOAT16_NOT_SUPPORTED_MODELS`."""
_DTYPES: Final[dict[str, Dtype]] = {"bfloat16": "bfloat16", "float16": "float16", "float32": "float32"}


def preset_of(
    source: ModelSource,
    config: Config,
    *,
    weights_bytes: int,
    gated: bool = False,
    license: str = "unknown",
    field: str = "inference.preset.name",
) -> ModelPreset:
    """Return a preset for a model that is in no catalog; `weights_bytes` is the sum of its weight files.

    It is named after the last part of its hub name or of its directory, in lower case.

    Raises:
        InvalidWorkspace: config.json lacks a dimension, named in the message; `field` is what named the model.
    """
    text = _text(config)
    name = (source.hub or source.local_dir or "").rstrip("/").rsplit("/", 1)[-1].lower()
    shape = shape_of(config, field=field)
    return ModelPreset(
        name=name,
        source=source,
        license=license,
        gated=gated,
        shape=shape,
        weights_bytes=weights_bytes,
        max_model_len=_int(text, _CONTEXT) or 2048,
        dtype=_DTYPES.get(str(text.get("dtype") or text.get("torch_dtype")), "bfloat16"),
        float16=text.get("model_type") not in _NOT_IN_FLOAT16,
        quantization=_quantization(config),
        tool_call_parser=tool_call_parser(name, shape.architecture),
        reasoning_parser=reasoning_parser(name, shape.architecture),
        tuning=_quantization(config) is None,
    )


def shape_of(config: Config, *, field: str = "inference.preset.name") -> ModelShape:
    """Return the shape that a `config.json` describes; that of the text model where there are several.

    Raises:
        InvalidWorkspace: a dimension is missing.
    """
    text = _text(config)
    kinds = _layer_kinds(text)
    layers = _int(text, _LAYERS) or len(kinds)
    found = {"hidden size": _int(text, _HIDDEN), "layers": layers, "attention heads": _int(text, _HEADS)}
    if missing := [what for what, value in found.items() if not value]:
        raise InvalidWorkspace(field, f"the model's config.json does not say its {', '.join(missing)}")
    architectures = config.get("architectures") or [text.get("model_type", "unknown")]
    return ModelShape(
        architecture=architectures[0],
        hidden_size=found["hidden size"],
        intermediate_size=_intermediate(text),
        vocab_size=text.get("vocab_size"),
        tied_embeddings=bool(text.get("tie_word_embeddings", False)),
        layers=layers,
        heads=found["attention heads"],
        groups=_groups_or_refusal(text, kinds, field),
    )


def _groups_or_refusal(text: Config, kinds: Sequence[str], field: str) -> tuple[LayerGroup, ...]:
    try:
        return tuple(_groups(text, kinds))
    except KeyError as missing:
        raise InvalidWorkspace(field, f"the model's config.json does not say its {missing.args[0]}") from missing


def _text(config: Config) -> dict[str, Any]:
    """The text model's keys first; what it leaves open is taken from the top level."""
    inner = config.get("text_config") or config.get("llm_config") or {}
    return {**config, **inner}


def _int(config: Config, names: Sequence[str]) -> int:
    return next((int(config[n]) for n in names if config.get(n)), 0)


def _quantization(config: Config) -> Quantization | None:
    found = config.get("quantization_config") or _text(config).get("quantization_config")
    if not found:
        return None
    return Quantization(method=found.get("quant_method", "unknown"), bits=found.get("bits"))


def _intermediate(text: Config) -> int | None:
    """Width of the feed-forward layer that one token passes through."""
    expert = text.get("moe_intermediate_size")
    used = _int(text, ("num_experts_per_tok", "top_k_experts"))
    if expert and used:
        shared = int(text.get("shared_expert_intermediate_size") or 0)
        return int(expert) * (used + int(text.get("n_shared_experts") or 0)) + shared
    wide = text.get("intermediate_size")
    if wide and used:
        return int(wide) * used
    return int(wide) if wide else None


def _layer_kinds(text: Config) -> list[str]:
    """What each layer keeps, in order; empty where the config has one kind of layer and does not list it."""
    if pattern := text.get("hybrid_override_pattern"):
        return [_PATTERN_LETTERS.get(letter, "none") for letter in pattern]
    count = _int(text, _LAYERS)
    if listed := text.get("layer_types") or text.get("layers_block_type"):
        kinds = [_KINDS.get(kind, kind) for kind in listed]
    elif every := _full_interval(text):
        other = "linear_attention" if text.get("linear_num_value_heads") else "sliding_attention"
        kinds = ["full_attention" if (i + 1) % every == 0 else other for i in range(count)]
    elif text.get("sliding_window") and text.get("use_sliding_window") is not False and not text.get("kv_lora_rank"):
        kinds = ["sliding_attention"] * count
    else:
        kinds = ["full_attention"] * count
    return kinds[: count - int(text.get("num_kv_shared_layers") or 0)] if count else kinds


def _full_interval(text: Config) -> int:
    if found := _int(text, ("full_attention_interval", "sliding_window_pattern")):
        return found
    return 6 if text.get("model_type") in _FULL_EVERY_SIX else 0


def _groups(text: Config, kinds: Sequence[str]) -> list[LayerGroup]:
    if text.get("model_type") in _ENCODERS:
        return []
    if ratios := text.get("compress_ratios"):
        return _compressed(text, ratios)
    if text.get("kv_lora_rank"):
        return _latent(text, len(kinds))
    made = {
        "full_attention": _full,
        "sliding_attention": _sliding,
        "linear_attention": _delta,
        "mamba": _mamba,
    }
    counts = Counter(kinds)
    return [make(text, counts[kind]) for kind, make in made.items() if counts[kind]]


def _head_dim(text: Config) -> int:
    return _int(text, _HEAD_DIM) or _int(text, _HIDDEN) // _int(text, _HEADS)


def _kv_heads(text: Config) -> int:
    return _int(text, _KV_HEADS) or (1 if text.get("multi_query") else _int(text, _HEADS))


def _full(text: Config, layers: int) -> LayerGroup:
    """Gemma 4 gives its full layers KV heads and a head dimension of their own."""
    return FullAttention(
        layers=layers,
        kv_heads=_int(text, ("num_global_key_value_heads",)) or _kv_heads(text),
        head_dim=_int(text, ("global_head_dim",)) or _head_dim(text),
    )


def _sliding(text: Config, layers: int) -> LayerGroup:
    return SlidingAttention(
        layers=layers, kv_heads=_kv_heads(text), head_dim=_head_dim(text), window_tokens=int(text["sliding_window"])
    )


def _delta(text: Config, layers: int) -> LayerGroup:
    return DeltaNet(
        layers=layers,
        key_heads=text["linear_num_key_heads"],
        value_heads=text["linear_num_value_heads"],
        key_dim=text.get("linear_key_head_dim", 128),
        value_dim=text.get("linear_value_head_dim", 128),
        conv_kernel=text.get("linear_conv_kernel_dim", 4),
    )


def _mamba(text: Config, layers: int) -> LayerGroup:
    return Mamba(
        layers=layers,
        heads=text["mamba_num_heads"],
        head_dim=text["mamba_head_dim"],
        state_size=text["ssm_state_size"],
        groups=text["n_groups"],
        conv_kernel=text.get("conv_kernel", 4),
    )


def _latent(text: Config, layers: int) -> list[LayerGroup]:
    """MLA; with `index_head_dim`, also the keys of the layers that have an indexer of their own."""
    rank, rope = text["kv_lora_rank"], text["qk_rope_head_dim"]
    if not text.get("index_head_dim"):
        return [LatentAttention(layers=layers, kv_lora_rank=rank, rope_dim=rope)]
    own = list(text.get("indexer_types") or ["full"] * layers).count("full")
    return [
        LatentAttention(layers=layers, kv_lora_rank=rank, rope_dim=rope, packed_bytes=rank + rank // 32 + 2 * rope),
        SparseIndex(layers=own, key_dim=text["index_head_dim"]),
    ]


def _compressed(text: Config, ratios: Sequence[int]) -> list[LayerGroup]:
    """DeepSeek V4: every layer has a short window; most also keep one vector for 4 tokens (indexed) or for 128."""
    layers, rope = _int(text, _LAYERS), int(text["qk_rope_head_dim"])
    rank = _head_dim(text) - rope
    vector = LatentAttention(
        layers=layers,
        kv_lora_rank=rank,
        rope_dim=rope,
        packed_bytes=rank + rank // 56 + 2 * rope,
        window_tokens=text["sliding_window"],
    )
    counts = Counter(r for r in ratios[:layers] if r > 1)
    groups: list[LayerGroup] = [vector]
    for ratio, count in sorted(counts.items()):
        entry = {"layers": count, "tokens_per_entry": ratio}
        groups.append(vector.model_copy(update={**entry, "window_tokens": None}))
        if ratio == min(counts):
            groups.append(SparseIndex(layers=count, key_dim=text["index_head_dim"], tokens_per_entry=ratio))
    return groups
