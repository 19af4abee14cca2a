"""The base model and its tokenizer, from a directory, as the config says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from kaito_ray.api.app_args import ModelSource
from kaito_ray.errors import InvalidWorkspace
from tuning.config import FIELD, TrainingConfig
from tuning.paths import on_this_machine

DTypeName = Literal["bfloat16", "float16", "float32"]


def directory(source: ModelSource) -> Path:
    """Return the directory with the weights, fetched if need be.

    Raises:
        KaitoRayError: no source of the weights can be used; the message says why for each.
    """
    from kaito_ray.weights import local_directory

    if source.local_dir:
        source = source.model_copy(update={"local_dir": str(on_this_machine(source.local_dir))})
    return local_directory(source)


def dtype_name(config: TrainingConfig, *, device: Literal["cuda", "cpu"]) -> DTypeName:
    """Return the type of weights and activations: the config's, else the hardware's best.

    bfloat16 wherever there is a choice: on a CPU with AVX-512 BF16 a 4-bit step takes less than half of float32's time
    (SmolLM2, 1.3 s against 3.0 s). GPUs before Ampere have no bfloat16 and get float16.
    """
    import torch

    if config.model.torch_dtype is not None and config.model.torch_dtype != "auto":
        return config.model.torch_dtype
    return "float16" if device == "cuda" and not torch.cuda.is_bf16_supported() else "bfloat16"


def tokenizer(directory: Path, config: TrainingConfig, *, trust_remote_code: bool) -> Any:
    """Return the tokenizer, with the config's chat template if it has one.

    Raises:
        InvalidWorkspace: the config names a chat template that is not there.
    """
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code)
    if config.model.chat_template:
        loaded.chat_template = _template(config.model.chat_template)
    return loaded


def base_model(
    directory: Path,
    config: TrainingConfig,
    *,
    device: Literal["cuda", "cpu"],
    device_index: int,
    trust_remote_code: bool,
) -> Any:
    """Return the base model on the worker's device, quantised if the method says so."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, dtype_name(config, device=device))
    options: dict[str, Any] = {}
    if config.quantization.bits < 16:
        quantisation = config.quantization.arguments()
        quantisation.setdefault("bnb_4bit_compute_dtype", dtype)
        options["quantization_config"] = BitsAndBytesConfig(**quantisation)
    loaded = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=dtype,
        device_map={"": device_index if device == "cuda" else "cpu"},
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        **options,
    )
    _keep_trainable(loaded)
    return loaded


def lora_config(config: TrainingConfig) -> Any:
    """Return peft's config.

    Target modules that are not named are found in the model: every linear layer but the output layer.
    """
    from peft import LoraConfig

    values = {"target_modules": "all-linear", **config.lora}
    return LoraConfig(**values, task_type="CAUSAL_LM")


def _keep_trainable(model: Any) -> None:
    """Keep 4-bit layers in the layout that gradients pass through.

    On a CPU with AVX-512 BF16, bitsandbytes 0.50 packs a layer's weights for inference when it first runs in evaluation
    mode, never unpacks them, and its product with packed weights has no gradient: after one evaluation, training would
    go on with the error signal cut at every layer, and only a warning to show for it.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _template(text_or_path: str) -> str:
    if "{" in text_or_path:
        return text_or_path
    path = on_this_machine(text_or_path)
    if not text_or_path.startswith("/mnt/") or ".." in text_or_path or not path.is_file():
        raise InvalidWorkspace(
            FIELD, f"ModelConfig.chat_template: {text_or_path!r} is neither Jinja text nor a file below /mnt"
        )
    return path.read_text()
