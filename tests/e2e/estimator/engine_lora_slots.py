"""What vLLM sets aside for LoRA adapters, as JSON lines: one model and degree a line, on the meta device.

Arguments: tensor-parallel degrees, comma-separated; adapters; rank; a YAML file of config.json texts by name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from vllm.config import set_current_vllm_config
from vllm.lora.model_manager import LoRAModelManager

from tests.e2e.estimator.engine_specs import build, engine_config


def slots(config: dict[str, Any], ranks: int, *, adapters: int, rank: int) -> int:
    """Bytes of all A and B buffers on one of `ranks` tensor-parallel ranks."""
    engine = engine_config(config, enable_lora=True, max_loras=adapters, max_lora_rank=rank)
    with set_current_vllm_config(engine):
        model = build(engine, ranks)
        meta = torch.device("meta")
        manager = LoRAModelManager(model, 8, 2048, config["vocab_size"], engine.lora_config, meta, engine)
    names = ("lora_a_stacked", "lora_b_stacked")
    buffers = [getattr(module, name, ()) for module in manager.modules.values() for name in names]
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
