"""One GGUF file to a bf16 safetensors checkpoint with tokenizer and chat template: `convert.py MODEL.gguf DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, to: Path) -> None:
    """Write the checkpoint of `gguf` into `to`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
