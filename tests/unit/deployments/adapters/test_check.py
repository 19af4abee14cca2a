from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from deployments.adapters.check import Base, check, module_shapes
from kaito_ray.errors import AdapterRefused
from tests import adapters

MODULES = {
    "model.embed_tokens": (32, 16),
    **{f"model.layers.{layer}.self_attn.q_proj": (16, 16) for layer in range(2)},
    **{f"model.layers.{layer}.mlp.down_proj": (16, 48) for layer in range(2)},
}
BASE = Base(max_lora_rank=8, names=frozenset({"HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2"}), modules=MODULES)


def adapter(folder: Path, tensors: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    weights = save(adapters.tensors() if tensors is None else tensors)
    contents = {"adapter_config.json": adapters.config_bytes(**config), "adapter_model.safetensors": weights}
    return adapters.write(folder, contents)


def pair(module: str, *, rank: int = 4, width_in: int = 16, width_out: int = 16) -> dict[str, np.ndarray]:
    return {
        f"base_model.model.{module}.lora_A.weight": np.zeros((rank, width_in), np.float32),
        f"base_model.model.{module}.lora_B.weight": np.zeros((width_out, rank), np.float32),
    }


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(BASE, id="everything known"),
        pytest.param(Base(max_lora_rank=8), id="nothing known"),
        pytest.param(replace(BASE, modules=dict.fromkeys(MODULES, ())), id="packed weights"),
    ],
)
def test_an_adapter_that_fits(tmp_path: Path, base: Base) -> None:
    check(adapter(tmp_path), base)


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param(pair("model.layers.0.mlp.down_proj", width_in=48), id="a layer that is not square"),
        pytest.param(pair("model.embed_tokens", width_in=32), id="an embedding"),
        pytest.param(
            {
                "base_model.model.model.embed_tokens.lora_embedding_A": np.zeros((4, 32), np.float32),
                "base_model.model.model.embed_tokens.lora_embedding_B": np.zeros((16, 4), np.float32),
            },
            id="an embedding by peft's own names",
        ),
        pytest.param(pair("model.language_model.layers.7.self_attn.q_proj"), id="names of a multimodal wrapper"),
    ],
)
def test_shapes_that_fit(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    check(adapter(tmp_path, tensors), BASE)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"r": 16}, "its rank 16 is above max_lora_rank 8; raise vllm.max-lora-rank"),
        ({"r": 0}, "r is 0"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": None}, "lora_alpha is None"),
        ({"target_modules": []}, "target_modules is missing"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        (
            {"base_model_name_or_path": "meta-llama/Llama-3.1-8B"},
            "tuned on meta-llama/Llama-3.1-8B, but this Workspace",
        ),
        ({"r": 2}, "has rank 4 .A. and 4 .B., but adapter_config.json says r 2"),
    ],
)
def test_configs_that_do_not_fit(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterRefused, match=words):
        check(adapter(tmp_path, **config), BASE)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/workspace/weights", id="KAITO's tuning writes a path"),
        pytest.param("../weights", id="a relative path"),
        pytest.param(None, id="none"),
        pytest.param("unsloth/SmolLM2-135M-Instruct", id="another organisation"),
        pytest.param("unsloth/smollm2-135m-instruct-unsloth-bnb-4bit", id="a quantized republication"),
        pytest.param("me/smollm2", id="the preset's name"),
    ],
)
def test_base_names_that_say_nothing_against_it(tmp_path: Path, name: str | None) -> None:
    check(adapter(tmp_path, base_model_name_or_path=name), BASE)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "holds no LoRA weights"),
        (pair("model.layers.0.self_attn.qkv"), "self_attn.qkv does not exist in the base model"),
        (pair("model.layers.2.self_attn.q_proj"), "which has 2 like it"),
        (pair("model.layers.0.mlp.down_proj"), "maps 16 to 16, in the base model 48 to 16"),
        (pair("model.layers.0.self_attn.q_proj", width_out=8), "maps 16 to 8, in the base model 16 to 16"),
        (dict([*pair("model.layers.0.self_attn.q_proj").items()][:1]), "only one of its two LoRA matrices"),
        ({"base_model.model.lm_head.weight": np.zeros((2, 2), np.float32)}, "is no LoRA weight"),
        (
            {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": np.zeros(2, np.float32)},
            "is no LoRA weight",
        ),
        ({"base_model.model.q_proj.lora_A.weight": np.zeros((4, 4), np.int8)}, "has type I8"),
        ({"base_model.model.q_proj.lora_A.weight": np.zeros((4,), np.float32)}, "must be a matrix"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, tensors: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(AdapterRefused, match=words):
        check(adapter(tmp_path, tensors), BASE)


@pytest.mark.parametrize("weights", [b"", b"\x80\x04.", b"\xff" * 64, adapters.weights_bytes()[:-8]])
def test_files_that_are_no_safetensors(tmp_path: Path, weights: bytes) -> None:
    adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(AdapterRefused, match="is no safetensors file"):
        check(tmp_path, BASE)


@pytest.mark.parametrize(("config", "words"), [(b"{", "is not JSON"), (b"[]", "is no JSON object"), (b"\xff", "JSON")])
def test_configs_that_are_no_json_object(tmp_path: Path, config: bytes, words: str) -> None:
    adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_bytes(config)
    with pytest.raises(AdapterRefused, match=words):
        check(tmp_path, BASE)


def test_module_shapes_of_a_sharded_and_a_packed_model(tmp_path: Path) -> None:
    save_file({"a.weight": np.zeros((3, 2), np.float16), "a.bias": np.zeros(3, np.float16)}, tmp_path / "1.safetensors")
    packed = {"b.weight": np.zeros((6, 1), np.uint8), "b.weight.absmax": np.zeros(1, np.float32)}
    save_file({**packed, "c.qweight": np.zeros((1, 2), np.int32)}, tmp_path / "2.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({}))
    shapes = module_shapes(tmp_path)
    assert shapes["a"] == (3, 2)
    assert shapes["b"] == shapes["c"] == ()


def test_a_model_without_safetensors_has_no_known_modules(tmp_path: Path) -> None:
    assert module_shapes(tmp_path) == {}
