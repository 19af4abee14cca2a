"""Values of `training_config.yaml` that hold where its author says nothing.

`kaito` are the values of KAITO's own templates. Two are ours on purpose: checkpoints are written (KAITO's `"no"` makes
a killed job start anew), and losses are logged at each step of a short run, so that there is progress to see.

`recommended` changes what costs quality or speed without being asked for:
- packing puts several short examples into one sequence, so no time goes into padding; examples do not see each other.
  How long a sequence and whether activations are kept is the hardware's to say (`for_device`), unless the author does;
- rank 16 with alpha 32 and a learning rate of 2e-4 is where the QLoRA and "LoRA without regret" papers meet: adapters
  want about ten times the learning rate of full tuning, and transformers' 5e-5 and TRL's 2e-5 are made for that;
- warm-up and a cosine end keep the first and the last steps from undoing others;
- a twentieth of the data is held out, so that `evalLoss` shows when the model starts to learn by heart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

ProfileName = Literal["kaito", "recommended"]
Sections = Mapping[str, Mapping[str, Any]]

_SHORTEST_PACK: Final = 256
"""Tokens; below it, a step's fixed cost (unpacking 4-bit weights) weighs."""
_LONGEST_PACK: Final = 2048

_KAITO: Final[Sections] = {
    "QuantizationConfig": {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "LoraConfig": {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0},
    "TrainingArguments": {
        "ddp_find_unused_parameters": False,
        "per_device_train_batch_size": 1,
        "num_train_epochs": 3,
        "logging_steps": 1,
        # A share of all steps: ten checkpoints a run, however long it is.
        "save_strategy": "steps",
        "save_steps": 0.1,
    },
    "DatasetConfig": {"shuffle_dataset": True, "shuffle_seed": 42, "train_test_split": 1.0},
}

_RECOMMENDED: Final[Sections] = {
    "LoraConfig": {"r": 16, "lora_alpha": 32},
    "TrainingArguments": {
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
        # Below 1 it is a share of all steps.
        "warmup_steps": 0.05,
        "packing": True,
    },
    "DatasetConfig": {"train_test_split": 0.95},
}


def defaults(profile: ProfileName, *, method: Literal["lora", "qlora"]) -> dict[str, dict[str, Any]]:
    """Return the values of every section for that profile and method."""
    layers: list[Sections] = [_KAITO, {"QuantizationConfig": {"load_in_4bit": method == "qlora"}}]
    if profile == "recommended":
        layers.append(_RECOMMENDED)
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


def for_device(training: Mapping[str, Any], *, device: Literal["cuda", "cpu"], longest_tokens: int) -> dict[str, Any]:
    """Return `TrainingArguments` of the recommended profile with what depends on hardware and data filled in.

    On a GPU, attention to a packed example costs what the example costs, and memory is what is short: long sequences,
    activations computed twice. On a CPU attention costs the square of the whole sequence, and time is what is short:
    sequences just long enough for the longest example, activations kept. SmolLM2 in 4 bits on two cores tunes 280
    tokens/s at 256 or 512 tokens a sequence, 230 at 1024, 160 at 2048 (benchmarks/results/tuning_*).
    """
    length = _LONGEST_PACK
    if device == "cpu":
        length = min(max(_SHORTEST_PACK, -(-longest_tokens // 64) * 64), _LONGEST_PACK)
    return {"max_length": length, "gradient_checkpointing": device == "cuda", **training}
