"""vLLM's own KV-cache specs and weight sizes, as JSON lines: one model a line, built without memory on the meta device.

Run as a program, because importing vLLM and its distributed state would stay in the test process.
Arguments: tensor-parallel degrees, comma-separated; then a YAML file of config.json texts by name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.update(VLLM_LOGGING_LEVEL="CRITICAL", HF_HUB_OFFLINE="1", VLLM_PLUGINS="")

import torch
import vllm.distributed.parallel_state as parallel
import yaml
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import destroy_model_parallel, init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.core.kv_cache_utils import _max_memory_usage_bytes_from_groups, get_kv_cache_groups
from vllm.v1.kv_cache_interface import MambaSpec

LENGTHS = (17, 2048, 8192, 100_000)


def engine_config(config: dict[str, Any], **options: Any) -> VllmConfig:
    """What the engine makes of that config.json, on this platform."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        arguments = EngineArgs(
            model=folder,
            skip_tokenizer_init=True,
            load_format="dummy",
            enforce_eager=True,
            mamba_ssm_cache_dtype="float32",
            **options,
        )
        return arguments.create_engine_config()


def describe(config: dict[str, Any], ranks: int) -> dict[str, Any]:
    """Bytes that the engine would allocate for that model on one of `ranks` tensor-parallel ranks."""
    engine = engine_config(config)
    with set_current_vllm_config(engine):
        model = build(engine, ranks)
        current_platform.update_block_size_for_backend(engine)
        layers = engine.compilation_config.static_forward_context
        kept = {
            name: layer
            for name, layer in layers.items()
            if isinstance(layer, AttentionLayerBase) and not getattr(layer, "kv_sharing_target_layer_name", None)
        }
        specs = {name: spec for name, layer in kept.items() if (spec := layer.get_kv_cache_spec(engine)) is not None}
        engine.cache_config.kv_cache_layout = "LBNHC"
        return {
            "layers": [[*kind, n] for kind, n in Counter(map(kind_of, specs.values())).items()],
            "weights": sum(p.numel() * p.element_size() for p in model.parameters()),
            "batchedTokens": engine.scheduler_config.max_num_batched_tokens,
            "concurrentSteps": engine.max_concurrent_batches,
            "sequences": {str(n): sequence_bytes(engine, specs, n) for n in LENGTHS},
        }


def build(engine: VllmConfig, ranks: int) -> torch.nn.Module:
    """The model on the meta device, as rank 0 of `ranks`: only sizes are asked for, nothing is exchanged."""
    if not torch.distributed.is_initialized():
        init_distributed_environment(1, 0, f"file://{tempfile.mktemp()}", 0, "gloo")
    destroy_model_parallel()
    initialize_model_parallel(1, 1)
    parallel.get_tp_group().world_size = ranks
    engine.parallel_config.tensor_parallel_size = ranks
    with torch.device("meta"), set_default_torch_dtype(engine.model_config.dtype):
        return initialize_model(vllm_config=engine)


def kind_of(spec: Any) -> tuple[str, int, int]:
    """A spec's class, the tokens of its block, and its own bytes: without what brings a state to attention's page."""
    own = spec.state_content_size_bytes if isinstance(spec, MambaSpec) else spec.page_size_bytes
    return type(spec).__name__, spec.block_size, own


def sequence_bytes(engine: VllmConfig, specs: dict[str, Any], tokens: int) -> int:
    """What one sequence of that length takes of the pool, by the engine's own admission."""
    engine.model_config.max_model_len = tokens
    return _max_memory_usage_bytes_from_groups(engine, get_kv_cache_groups(engine, dict(specs)))


def main() -> None:
    degrees, file = sys.argv[1:]
    for name, config in yaml.safe_load(Path(file).read_text()).items():
        for ranks in map(int, degrees.split(",")):
            try:
                found = describe(config, ranks)
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"name": name, "ranks": ranks, **found}), flush=True)


if __name__ == "__main__":
    main()
