"""What vLLM sets aside for LoRA adapters, as JSON lines: one model and degree a line, on the meta device.

Arguments: tensor-parallel degrees, comma-separated; adapters; rank; a YAML file of config.json texts by name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(VLLM_LOGGING_LEVEL="CRITICAL", HF_HUB_OFFLINE="1", VLLM_PLUGINS="")

import torch
import vllm.distributed.parallel_state as parallel
import yaml
from vllm.config import set_current_vllm_config
from vllm.distributed import destroy_model_parallel, init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.lora.model_manager import LoRAModelManager
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype


def slots(config: dict[str, Any], ranks: int, *, adapters: int, rank: int) -> int:
    """Bytes of all A and B buffers on one of `ranks` tensor-parallel ranks."""
    folder = Path(tempfile.mkdtemp(prefix="lora-"))
    (folder / "config.json").write_text(json.dumps(config))
    engine = EngineArgs(
        model=str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        enable_lora=True,
        max_loras=adapters,
        max_lora_rank=rank,
    ).create_engine_config()
    with set_current_vllm_config(engine):
        if not torch.distributed.is_initialized():
            init_distributed_environment(1, 0, f"file://{tempfile.mktemp()}", 0, "gloo")
        destroy_model_parallel()
        initialize_model_parallel(1, 1)
        parallel.get_tp_group().world_size = ranks
        engine.parallel_config.tensor_parallel_size = ranks
        meta = torch.device("meta")
        with meta, set_default_torch_dtype(engine.model_config.dtype):
            model = initialize_model(vllm_config=engine)
        manager = LoRAModelManager(model, 8, 2048, config["vocab_size"], engine.lora_config, meta, engine)
        buffers = [
            getattr(module, name, ())
            for module in manager.modules.values()
            for name in ("lora_a_stacked", "lora_b_stacked")
        ]
        flat = [t for b in buffers for t in (b if isinstance(b, list | tuple) else (b,))]
        return sum(t.numel() * t.element_size() for t in flat)


def main() -> None:
    degrees, adapters, rank, file = sys.argv[1:]
    for name, config in yaml.safe_load(Path(file).read_text()).items():
        for ranks in map(int, degrees.split(",")):
            found = slots(config, ranks, adapters=int(adapters), rank=int(rank))
            print(json.dumps({"name": name, "ranks": ranks, "bytes": found}), flush=True)


if __name__ == "__main__":
    main()
