from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.api.app_args import ModelSource
from kaito_ray.catalog.from_config import preset_of, shape_of
from kaito_ray.catalog.load import find
from kaito_ray.catalog.models import FullAttention, Mamba, SlidingAttention
from kaito_ray.catalog.parsers import reasoning_parser, tool_call_parser
from kaito_ray.errors import InvalidWorkspace

CONFIGS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("configs.yaml").read_text(encoding="utf-8"))
LLAMA = CONFIGS["llama-3.1-8b-instruct"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_s_shape_is_its_config_s(name: str) -> None:
    assert shape_of(CONFIGS[name]) == find(name).shape


@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_s_limit_is_its_config_s(name: str) -> None:
    config = CONFIGS[name]
    text = config.get("text_config") or config.get("llm_config") or config
    assert text["max_position_embeddings"] == find(name).max_model_len


def test_older_names_of_the_same_dimensions_are_understood() -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "n_embd": 768, "n_layer": 12, "n_head": 12, "n_ctx": 1024}
    assert shape_of(config).groups == (FullAttention(layers=12, kv_heads=12, head_dim=64),)
    assert preset_of(ModelSource(hub="org/GPT2"), config, weights_bytes=5).max_model_len == 1024


def test_multi_query_is_one_kv_head() -> None:
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "multi_query": True}
    assert shape_of(config).groups == (FullAttention(layers=2, kv_heads=1, head_dim=8),)


def test_a_window_that_is_switched_off_is_none() -> None:
    config = {**LLAMA, "sliding_window": 4096}
    assert isinstance(shape_of(config).groups[0], SlidingAttention)
    assert isinstance(shape_of({**config, "use_sliding_window": False}).groups[0], FullAttention)


def test_layers_that_share_another_s_cache_keep_nothing() -> None:
    shared = shape_of({**LLAMA, "num_kv_shared_layers": 20})
    assert (shared.layers, shared.groups[0].layers) == (32, 12)


def test_nemotron_s_letters_and_its_list_say_the_same() -> None:
    base = CONFIGS["nvidia-nemotron-nano-9b-v2"]
    listed = {k: v for k, v in base.items() if k != "hybrid_override_pattern"}
    kinds = {"M": "mamba", "*": "attention", "-": "mlp"}
    listed["layers_block_type"] = [kinds[letter] for letter in base["hybrid_override_pattern"]]
    assert shape_of(listed) == shape_of(base)
    assert [g.layers for g in shape_of(base).groups if isinstance(g, Mamba)] == [27]


def test_a_missing_dimension_is_named_with_the_field_that_named_the_model() -> None:
    with pytest.raises(
        InvalidWorkspace, match=r"^tuning.preset.name: .* does not say its hidden size, attention heads$"
    ):
        shape_of({"num_hidden_layers": 2}, field="tuning.preset.name")


def test_a_missing_key_of_a_kind_of_layer_is_named_too() -> None:
    config = {k: v for k, v in CONFIGS["nvidia-nemotron-nano-9b-v2"].items() if k != "ssm_state_size"}
    with pytest.raises(InvalidWorkspace, match=r"^inference.preset.name: .* does not say its ssm_state_size$"):
        shape_of(config)


def test_any_model_of_a_hub_becomes_a_preset() -> None:
    found = preset_of(
        ModelSource(hub="Org/Llama-Next-8B", revision="abc"),
        {**LLAMA, "torch_dtype": "float16"},
        weights_bytes=16,
        gated=True,
    )
    assert (found.name, found.source.hub, found.source.revision) == ("llama-next-8b", "Org/Llama-Next-8B", "abc")
    assert (found.dtype, found.gated, found.tool_call_parser) == ("float16", True, "llama3_json")


def test_its_quantisation_is_read() -> None:
    found = preset_of(ModelSource(hub="org/x"), CONFIGS["qwen3-8b-awq"], weights_bytes=1)
    assert found.quantization is not None
    assert (found.quantization.method, found.quantization.bits) == ("awq", 4)


@pytest.mark.parametrize(
    ("name", "architecture", "parser"),
    [
        pytest.param("deepseek-v3.1-base", "DeepseekV3ForCausalLM", "deepseek_v31", id="the longest prefix wins"),
        pytest.param("something", "LlamaForCausalLM", "llama3_json", id="else the architecture"),
        pytest.param("something", "Unheard", None, id="else none"),
        pytest.param("phi-4-mini-instruct", "Phi3ForCausalLM", "phi4_mini_json", id="phi-4-mini"),
    ],
)
def test_tool_call_parsers(name: str, architecture: str, parser: str | None) -> None:
    assert tool_call_parser(name, architecture) == parser


def test_a_model_that_does_not_reason_has_no_parser_whatever_its_architecture() -> None:
    assert reasoning_parser("mistral-7b-v0.3", "MistralForCausalLM") is None
    assert reasoning_parser("magistral-x", "MistralForCausalLM") == "mistral"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_tables_agree_with_the_presets(name: str) -> None:
    preset = find(name)
    assert tool_call_parser(name, preset.shape.architecture) == preset.tool_call_parser
    assert reasoning_parser(name, preset.shape.architecture) == preset.reasoning_parser
