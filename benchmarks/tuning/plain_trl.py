"""The script that a person would write without us: TRL's `SFTTrainer`, no Ray. One run, figures as JSON on the last line.

    python benchmarks/tuning/plain_trl.py SETTINGS.json

Settings: `model` (directory), `train` and `held_out` (jsonl of TRL examples), `quantize` (NF4, double quantisation),
`lora` (arguments of `LoraConfig`), `sft` (arguments of `SFTConfig`; what is absent is TRL's default).
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Tune once and return the figures; peak memory is that of this process."""
    options: dict[str, Any] = {}
    if settings["quantize"]:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    model = AutoModelForCausalLM.from_pretrained(
        settings["model"], dtype=torch.bfloat16, device_map={"": "cpu"}, **options
    )
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # Else evaluation cuts the gradient: see docs/adr/0009. Without this the plain script would learn worse.
            module.support_avx512bf16_for_cpu = False
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(scratch, report_to="none", use_cpu=True, disable_tqdm=True, **settings["sft"]),
            train_dataset=_examples(settings["train"]),
            eval_dataset=_examples(settings["held_out"]),
            processing_class=AutoTokenizer.from_pretrained(settings["model"]),
            peft_config=LoraConfig(task_type="CAUSAL_LM", **settings["lora"]),
        )
        trainer.train()
        history = trainer.state.log_history
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"history": history, "peak_bytes": used.ru_maxrss * 1024, "cpu_s": used.ru_utime + used.ru_stime}


def _examples(path: str) -> Dataset:
    return Dataset.from_list([json.loads(line) for line in Path(path).read_text().splitlines()])


if __name__ == "__main__":
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))))
