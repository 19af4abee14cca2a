"""Does this adapter fit this base model and this engine? Answered from headers alone, before the engine sees it.

vLLM checks little: it takes a wrong layer number, an `alpha_pattern` or a vector of another length without a word, or
fails while it copies into a slot. So everything is compared here, and each refusal says what to do.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from deployments.adapters.extract import CONFIG, WEIGHTS
from kaito_ray.errors import AdapterRefused

Shape = tuple[int, ...]

_PREFIX: Final = "base_model.model."
_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_A|embedding_B|A|B)(?:\.default)?(?:\.weight)?")
_DTYPES: Final = {"F32", "F16", "BF16"}
_PLAIN_DTYPES: Final = {*_DTYPES, "F8_E4M3", "F8_E5M2"}
UNSUPPORTED: Final = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
    "megatron_config": "Megatron layers",
    "layer_replication": "replicated layers",
    "modules_to_save": "fully trained modules (modules_to_save)",
    "lora_bias": "a bias in the LoRA layers (lora_bias)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "rank_pattern": "a rank for each module (rank_pattern), which vLLM would scale wrongly",
    "alpha_pattern": "an alpha for each module (alpha_pattern), which vLLM would ignore",
}
"""Fields of peft's config that ask for more than plain LoRA when they are set."""
_CHANGES_BASE: Final = ("pissa", "corda", "olora", "loftq", "lora_ga", "mica")
"""Values of `init_lora_weights` with which peft subtracts the start of the update from the base model's weights."""


@dataclass(frozen=True)
class Base:
    """What adapters are compared with. What is not known is not compared."""

    max_lora_rank: int
    """The engine's slots hold adapters up to this rank."""
    names: frozenset[str] = frozenset()
    """Every name that the model goes by: hub repository, preset, package."""
    modules: Mapping[str, Shape] = field(default_factory=dict)
    """Shape of each module's weight, `model.layers.0.self_attn.q_proj` -> (out, in); () where it is packed."""


def module_shapes(folder: Path) -> dict[str, Shape]:
    """Return the modules of the model in `folder`, from its safetensors headers; none where it has no such files."""
    modules: dict[str, Shape] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, (shape, dtype) in _headers(path).items():
            module, _, parameter = name.rpartition(".")
            # 4-bit formats pack weights into integers of another shape.
            is_plain = parameter == "weight" and dtype in _PLAIN_DTYPES
            modules[module] = shape if is_plain else modules.get(module, ())
    return modules


def check(folder: Path, base: Base) -> None:
    """Return if the adapter in `folder` can be served on `base`.

    Raises:
        AdapterRefused: it cannot, and why.

    """
    config = _config(folder / CONFIG)
    _check_config(config, base)
    try:
        tensors = _headers(folder / WEIGHTS)
    except SafetensorError as error:
        raise AdapterRefused(f"{WEIGHTS} is no safetensors file: {error}") from error
    _check_tensors(tensors, int(config["r"]), base)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise AdapterRefused(f"{CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise AdapterRefused(f"{CONFIG} is no JSON object")
    return config


def _check_config(config: Mapping[str, Any], base: Base) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterRefused(f"peft_type is {kind!r}; only LORA adapters can be served")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise AdapterRefused(f"r is {rank!r} in {CONFIG}; it must be the rank, a whole number from 1")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise AdapterRefused(f"lora_alpha is {alpha!r} in {CONFIG}; it must be a number")
    if not config.get("target_modules"):
        raise AdapterRefused(f"target_modules is missing in {CONFIG}")
    if rank > base.max_lora_rank:
        raise AdapterRefused(
            f"its rank {rank} is above max_lora_rank {base.max_lora_rank}; raise vllm.max-lora-rank in "
            "inference.config, or tune with a smaller r"
        )
    if config.get("bias", "none") != "none":
        raise AdapterRefused(f"bias is {config['bias']!r}; only adapters tuned with bias none can be served")
    for key, words in UNSUPPORTED.items():
        if config.get(key):
            raise AdapterRefused(f"it has {words}; the engine serves plain LoRA only")
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGES_BASE):
        raise AdapterRefused(
            f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base model too; save it as plain "
            "LoRA (peft: save_pretrained(..., path_initial_model_for_weight_conversion=...))"
        )
    _check_base_name(config.get("base_model_name_or_path"), base.names)


def _check_base_name(trained_on: object, names: Collection[str]) -> None:
    """Compare hub names. A path says nothing about the model, and organisations republish each other's."""
    if not isinstance(trained_on, str) or trained_on.count("/") != 1 or trained_on[0] in "/.":
        return
    known = {_bare(name) for name in names}
    if known and _bare(trained_on) not in known:
        raise AdapterRefused(
            f"it was tuned on {trained_on}, but this Workspace serves {', '.join(sorted(names))}; tune it on that, or "
            f"correct base_model_name_or_path in {CONFIG}"
        )


def _bare(name: str) -> str:
    """Return a model's name without organisation and without the marks of quantized republications."""
    return re.sub(r"(-unsloth)?(-bnb-4bit|-awq|-gptq|-fp8)?$", "", name.rpartition("/")[2].lower())


def _check_tensors(tensors: Mapping[str, tuple[Shape, str]], rank: int, base: Base) -> None:
    pairs: dict[str, dict[str, Shape]] = {}
    for name, (shape, dtype) in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise AdapterRefused(f"tensor {name} is no LoRA weight; the engine serves plain LoRA only")
        if dtype not in _DTYPES:
            raise AdapterRefused(f"tensor {name} has type {dtype}; it must be one of {', '.join(sorted(_DTYPES))}")
        if len(shape) != 2:
            raise AdapterRefused(f"tensor {name} has shape {shape}; it must be a matrix")
        pairs.setdefault(match["module"].removeprefix(_PREFIX), {})[match["kind"]] = shape
    if not pairs:
        raise AdapterRefused(f"{WEIGHTS} holds no LoRA weights")
    known = _Modules.of(base.modules)
    for module, halves in pairs.items():
        in_out = _in_out(module, halves, rank)
        known.check(module, in_out)


def _in_out(module: str, halves: Mapping[str, Shape], rank: int) -> tuple[int, int]:
    """Return the input and output width of the layer that A [r, in] and B [out, r] belong to."""
    # peft keeps an embedding's A as [r, vocabulary] and B as [width, r]: the same form.
    a, b = halves.get("A") or halves.get("embedding_A"), halves.get("B") or halves.get("embedding_B")
    if a is None or b is None:
        raise AdapterRefused(f"module {module} has only one of its two LoRA matrices")
    if a[0] != rank or b[1] != rank:
        raise AdapterRefused(f"module {module} has rank {a[0]} (A) and {b[1]} (B), but {CONFIG} says r {rank}")
    return a[1], b[0]


@dataclass(frozen=True)
class _Modules:
    """The base model's layers by name, by name without numbers, and by last word."""

    widths: Mapping[str, Shape]
    patterns: Counter[str]
    leaves: frozenset[str]

    @classmethod
    def of(cls, widths: Mapping[str, Shape]) -> _Modules:
        return cls(widths, Counter(map(_pattern, widths)), frozenset(_leaf(name) for name in widths))

    def check(self, module: str, in_out: tuple[int, int]) -> None:
        if not self.widths:
            return
        if _leaf(module) not in self.leaves and module not in self.widths:
            raise AdapterRefused(f"module {module} does not exist in the base model; it was tuned on another one")
        shape = self.widths.get(module)
        if shape is None:
            # Names may differ as a whole between a checkpoint and peft (multimodal wrappers); numbers may not.
            if layers := self.patterns[_pattern(module)]:
                raise AdapterRefused(f"module {module} does not exist in the base model, which has {layers} like it")
            return
        # Embeddings, and GPT-2's layers, are stored the other way round.
        if len(shape) == 2 and in_out not in {shape, shape[::-1]}:
            raise AdapterRefused(
                f"module {module} maps {in_out[0]} to {in_out[1]}, in the base model {shape[1]} to {shape[0]}; "
                "it was tuned on another model"
            )


def _pattern(name: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".N", name)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _headers(path: Path) -> dict[str, tuple[Shape, str]]:
    with safe_open(path, framework="numpy") as file:
        return dict(_described(file))


def _described(file: Any) -> Iterable[tuple[str, tuple[Shape, str]]]:
    for name in file.keys():  # noqa: SIM118 - safetensors' handle is no mapping
        view = file.get_slice(name)
        yield name, (tuple(view.get_shape()), str(view.get_dtype()))
