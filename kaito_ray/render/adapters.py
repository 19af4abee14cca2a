"""Adapters of a Workspace: what the replica is told of each, and what the pod mounts for it.

An image is named in `user_config`, so it comes and goes in place. A volume must be mounted, and a mount changes the
pod: adding one starts a new Ray cluster beside the old one, and takes over when it serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kaito_ray.api.app_args import UserAdapter
from kaito_ray.api.workspace import AdapterSpec, InferenceSpec
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.render.inference_config import InferenceConfig

MOUNT: Final = "/mnt/adapters"
"""Where adapters from volumes are mounted, each in a directory of its name."""
DEFAULT_RANK: Final = 64
"""Highest rank of an adapter where the Workspace says nothing; what most are tuned with, or less."""
WITHOUT_LORA: Final = frozenset(
    {
        "BertModel",
        "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM",
        "GlmMoeDsaForCausalLM",
        "KimiK25ForConditionalGeneration",
        "NemotronH_Nano_VL_V2",
    }
)
"""Architectures of presets whose class in vLLM 0.29 does not support LoRA."""
DENSE: Final = frozenset(
    {
        "Gemma3ForConditionalGeneration",
        "GraniteForCausalLM",
        "LlamaForCausalLM",
        "Mistral3ForConditionalGeneration",
        "MistralForCausalLM",
        "Phi3ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
    }
)
"""Architectures without experts, for which LoRA is well trodden."""
_MOST_AT_ONCE: Final = 4
"""Adapters in one batch at most; further ones take turns."""
_HOST_SLOTS: Final = 16
"""Adapters kept in the host's memory; further ones are read from disk when they are asked for."""


def user_adapters(spec: InferenceSpec) -> tuple[UserAdapter, ...]:
    """Return the adapters as the replica is told; one that waits for its tuning run is not told of yet."""
    return tuple(
        UserAdapter(
            name=name,
            image=adapter.source.image,
            path=f"{MOUNT}/{name}" if adapter.source.volume_source else None,
            strength=float(adapter.strength or "1.0"),
        )
        for name, adapter in _named(spec)
        if adapter.source and (adapter.source.image or adapter.source.volume_source)
    )


def volumes(spec: InferenceSpec) -> list[dict[str, Any]]:
    """Return the pod's volumes of adapters."""
    return [{"name": _volume(index), **source} for index, _, source in _from_volumes(spec)]


def mounts(spec: InferenceSpec) -> list[dict[str, Any]]:
    """Return the container's mounts of those volumes."""
    return [
        {"name": _volume(index), "mountPath": f"{MOUNT}/{name}", "readOnly": True}
        for index, name, _ in _from_volumes(spec)
    ]


def pull_secrets(spec: InferenceSpec) -> tuple[str, ...]:
    """Return the names of the Secrets that images of adapters and of weights are pulled with, each once, sorted."""
    named = {name for _, adapter in _named(spec) if adapter.source for name in adapter.source.image_pull_secrets}
    if spec.preset is not None and spec.preset.preset_options is not None:
        named |= set(spec.preset.preset_options.image_pull_secrets)
    return tuple(sorted(named))


def pulls_images(spec: InferenceSpec) -> bool:
    """Return whether an adapter or the weights come from an image."""
    options = spec.preset.preset_options if spec.preset else None
    return bool(options and options.image) or any(a.source and a.source.image for a in spec.adapters)


def possible(preset: ModelPreset) -> bool:
    """Return whether the engine can serve adapters of that model."""
    return preset.shape.architecture not in WITHOUT_LORA


def slots(preset: ModelPreset, spec: InferenceSpec) -> int:
    """Return how many adapters one batch has room for; 0 where the engine runs without LoRA.

    Dense models in full precision have room from the first day, so that the first adapter can be added while they
    serve. For others LoRA costs memory and faster kernels, so it is on only where adapters are declared.
    """
    from_the_first_day = preset.shape.architecture in DENSE and preset.quantization is None
    wanted = len(spec.adapters) or int(from_the_first_day)
    return min(wanted, _MOST_AT_ONCE) if possible(preset) else 0


def engine_args(preset: ModelPreset, spec: InferenceSpec, config: InferenceConfig) -> dict[str, Any]:
    """Return the engine's arguments for LoRA."""
    at_once = slots(preset, spec)
    if not at_once:
        return {}
    return {
        "enable_lora": True,
        "max_loras": at_once,
        "max_cpu_loras": _HOST_SLOTS,
        "max_lora_rank": config.planned.get("max_lora_rank", DEFAULT_RANK),
    }


def _named(spec: InferenceSpec) -> Iterator[tuple[str, AdapterSpec]]:
    """Yield the adapters with their names; admission has seen to it that each has one."""
    for adapter in spec.adapters:
        if adapter.source is not None and adapter.source.name:
            yield adapter.source.name, adapter


def _from_volumes(spec: InferenceSpec) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for index, (name, adapter) in enumerate(_named(spec)):
        if adapter.source is not None and adapter.source.volume_source:
            yield index, name, adapter.source.volume_source


def _volume(index: int) -> str:
    return f"adapter-{index}"
