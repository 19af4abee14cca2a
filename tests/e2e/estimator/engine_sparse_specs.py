"""What vLLM's admission takes for sparse MLA (DeepSeek V3.2, GLM 5.2), as one JSON object.

The CPU build cannot build these models, but it has the specs of their layers: the indexer's cache is asked for its own,
and the attention's is the one that `MLAAttention` makes for the type named in the arguments.
Arguments: a YAML file of {name: {layers, indexers, kvLoraRank, ropeDim, keyDim, cacheType}}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from vllm.config import set_current_vllm_config
from vllm.model_executor.models.deepseek_v2 import DeepseekV32IndexerCache
from vllm.v1.kv_cache_interface import MLAAttentionSpec, get_kv_quant_mode

from tests.e2e.estimator.engine_specs import LENGTHS, engine_config, sequence_bytes

ANY_MODEL = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "vocab_size": 128,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
"""The engine's options come with a model; which one does not matter here."""
INDEX_SCALE_ELEMENTS = 128
"""Elements of an indexer key that share a 4-byte scale (`Indexer.quant_block_size`)."""


def describe(row: dict[str, Any]) -> dict[str, int]:
    """Bytes of one sequence of each length."""
    engine = engine_config(ANY_MODEL)
    engine.cache_config.block_size = row["blockTokens"]
    packed = row["cacheType"] == "fp8_ds_mla"
    with set_current_vllm_config(engine):
        attention = MLAAttentionSpec(
            block_size=row["blockTokens"],
            num_kv_heads=1,
            head_size=row["kvLoraRank"] + row["ropeDim"],
            dtype=torch.uint8 if packed else torch.bfloat16,
            cache_dtype_str=row["cacheType"],
            kv_quant_mode=get_kv_quant_mode(row["cacheType"]),
            state_content_bytes=656 if packed else None,
        )
        key_bytes = row["keyDim"] + row["keyDim"] // INDEX_SCALE_ELEMENTS * 4
        specs: dict[str, Any] = {f"attention.{i}": attention for i in range(row["layers"])}
        for i in range(row["indexers"]):
            cache = DeepseekV32IndexerCache(key_bytes, torch.uint8, f"indexer.{i}", engine.cache_config)
            specs[f"indexer.{i}"] = cache.get_kv_cache_spec(engine)
        engine.cache_config.kv_cache_layout = "LBNHC"
        return {str(n): sequence_bytes(engine, specs, n) for n in LENGTHS}


if __name__ == "__main__":
    rows = yaml.safe_load(Path(sys.argv[1]).read_text())
    print(json.dumps({name: describe(row) for name, row in rows.items()}))
