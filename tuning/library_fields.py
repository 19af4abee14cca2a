"""The two sections whose fields are a library's: peft's `LoraConfig` and TRL's `SFTConfig`.

Names and types are read from the libraries, so that a new version brings its new fields by itself; what must not be
set from a config file is listed here, with what to do instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from tuning.faults import unknown_name

_LORA_ALLOWED: Final = frozenset(
    {
        "alpha_pattern",
        "bias",
        "ensure_weight_tying",
        "exclude_modules",
        "fan_in_fan_out",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_bias",
        "lora_dropout",
        "modules_to_save",
        "r",
        "rank_pattern",
        "target_modules",
        "target_parameters",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
    }
)
_LORA_FIXED: Final = {"task_type": "CAUSAL_LM", "peft_type": "LORA", "inference_mode": False}
"""May be written, but only like this."""
_LORA_INITS: Final = (True, "gaussian", "orthogonal")
"""Other ways to start (PiSSA, OLoRA, EVA, ...) change the base weights, and the adapter would not fit them any more."""

_TRAINING_REFUSED_BECAUSE: Final[Mapping[str, tuple[str, ...]]] = {
    "the job sets it": (
        *("do_train", "do_eval", "do_predict", "disable_tqdm", "report_to", "project", "debug", "label_names"),
        *("log_level", "log_level_replica", "log_on_each_node", "include_for_metrics", "batch_eval_metrics"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        *("remove_unused_columns", "prediction_loss_only"),
    ),
    "the adapter goes where tuning.output says": (
        *("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push"),
        "hub_revision",
    ),
    "set tuning.workers; Ray Train makes the process group": (
        *("deepspeed", "fsdp", "fsdp_config", "accelerator_config", "parallelism_config"),
        *("local_rank", "use_cpu", "ddp_backend"),
    ),
    "the model is tuning.preset, and its options are in ModelConfig": ("model_init_kwargs", "trust_remote_code"),
    "checkpoints are for resuming, and the last model is kept": (
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better", "save_only_model"),
        *("save_on_each_node", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"),
    ),
    "set tuning.resume": ("resume_from_checkpoint",),
    "set ModelConfig.chat_template": ("chat_template_path",),
    "set DatasetConfig.response_column": ("dataset_text_field",),
    "name the columns in DatasetConfig": ("dataset_kwargs",),
    "set DatasetConfig.shuffle_dataset": ("shuffle_dataset",),
    "set DataCollator.pad_to_multiple_of": ("pad_to_multiple_of",),
}
_TRAINING_REFUSED: Final = {name: why for why, names in _TRAINING_REFUSED_BECAUSE.items() for name in names}


def lora(values: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return the checked arguments of `LoraConfig`; faults are added to `faults`."""
    from peft import LoraConfig

    known = [field.name for field in dataclasses.fields(LoraConfig)]
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name in _LORA_FIXED and value == _LORA_FIXED[name]:
            continue
        if name not in known:
            faults.append(unknown_name(name, known, section="LoraConfig"))
        elif name not in _LORA_ALLOWED:
            faults.append(f"LoraConfig.{name}: the job sets it, or it makes an adapter that engines do not serve")
        elif name == "init_lora_weights" and value not in _LORA_INITS:
            faults.append(f"LoraConfig.{name}: {value!r} changes the base weights; use true, gaussian or orthogonal")
        elif name == "r" and not (isinstance(value, int) and value > 0):
            faults.append(f"LoraConfig.r: a whole number above 0 is expected, not {value!r}")
        else:
            checked[name] = value
    try:
        LoraConfig(**checked, task_type="CAUSAL_LM")
    except (TypeError, ValueError) as error:
        faults.append(f"LoraConfig: {error}")
    return checked


def training(values: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return the checked arguments of `SFTConfig`, each converted to its type; faults are added to `faults`."""
    known = _training_types()
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name == "output_dir":
            faults += _output_dir_faults(value)
        elif name not in known:
            faults.append(unknown_name(name, known, section="TrainingArguments"))
        elif name in _TRAINING_REFUSED:
            faults.append(f"TrainingArguments.{name}: {_TRAINING_REFUSED[name]}")
        else:
            try:
                # YAML 1.1 reads 1e-4 as text, and many a config has it so.
                checked[name] = known[name].validate_python(value)
            except ValidationError as error:
                faults.append(f"TrainingArguments.{name}: {error.errors()[0]['msg']}, not {value!r}")
    return checked


@cache
def _training_types() -> Mapping[str, TypeAdapter[Any]]:
    from trl import SFTConfig

    hints = get_type_hints(SFTConfig)
    return {field.name: _adapter(hints[field.name]) for field in dataclasses.fields(SFTConfig)}


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))


def _output_dir_faults(value: Any) -> list[str]:
    if isinstance(value, str) and value.startswith("/mnt/") and value.strip("/") != "mnt" and ".." not in value:
        return []
    return [f"TrainingArguments.output_dir: must be a directory below /mnt, not {value!r}"]
