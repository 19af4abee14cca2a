"""KAITO's `training_config.yaml`, every section and field, checked at once.

Every fault of a file is reported together, by name and with the nearest name that exists. A field that could do nothing
here, or that would let a config reach beyond tuning (paths, remote code, uploads), is refused with the remedy: nothing
is accepted and then ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kaito_ray.errors import InvalidWorkspace
from tuning import library_fields
from tuning.faults import unknown_name
from tuning.profiles import ProfileName, defaults, for_device

FIELD: Final = "tuning.config"
_KAITO_WEIGHTS: Final = "/workspace/tfs/weights"

DType = Literal["auto", "bfloat16", "float16", "float32"]


class Section(BaseModel):
    """One section; the names are KAITO's, which are those of the libraries behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


class ModelConfig(Section):
    """How the base model is loaded."""

    pretrained_model_name_or_path: Literal["/workspace/tfs/weights"] | None = None
    """KAITO's path, or nothing: the model is `tuning.preset.name`."""
    state_dict: None = None
    """Weights come from the preset."""
    cache_dir: None = None
    """Downloads have one place, KAITO_RAY_CACHE."""
    force_download: Literal[False] = False
    """Weights are checked when they arrive."""
    proxies: None = None
    """Set HTTPS_PROXY for the pod."""
    output_loading_info: Literal[False] = False
    """There is nobody to read it."""
    local_files_only: bool = True
    """Weights are fetched first and always loaded from disk, so both values hold."""
    revision: str = "main"
    """Must be `tuning.preset.revision`, or `main`."""
    trust_remote_code: bool = False
    """Needs `tuning.preset.trustRemoteCode`."""
    torch_dtype: DType | None = None
    """Type of weights and activations; absent lets the hardware decide."""
    device_map: Literal["auto"] | None = "auto"
    """Each worker holds the model on its own device."""
    chat_template: str | None = None
    """Jinja text, or the path of a file below /mnt."""


class QuantizationConfig(Section):
    """bitsandbytes' options; see transformers' `BitsAndBytesConfig`."""

    quant_method: Literal["bitsandbytes"] = "bitsandbytes"
    """The only one."""
    load_in_8bit: bool = False
    """Hold the base model in 8 bits."""
    load_in_4bit: bool = False
    """Hold the base model in 4 bits."""
    llm_int8_threshold: float = 6.0
    """Outliers above it stay in 16 bits."""
    llm_int8_skip_modules: tuple[str, ...] | None = None
    """Modules that are not quantised."""
    llm_int8_enable_fp32_cpu_offload: Literal[False] = False
    """Offloading cannot be tuned."""
    llm_int8_has_fp16_weight: bool = False
    """Keep 16-bit weights beside the 8-bit ones."""
    bnb_4bit_compute_dtype: Literal["bfloat16", "float16", "float32"] | None = None
    """Type that 4-bit weights are computed in; absent means the model's."""
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    """Code book."""
    bnb_4bit_use_double_quant: bool = True
    """Quantise the scales as well."""

    @property
    def bits(self) -> int:
        """Return bits per weight of the base model: 4, 8 or 16."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else 16

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `BitsAndBytesConfig`."""
        return self.model_dump(exclude={"quant_method"}, exclude_none=True)


class DatasetConfig(Section):
    """Which data, and what its columns mean."""

    dataset_path: str | None = None
    """A file or directory of the input; absent means all of it."""
    dataset_extension: Literal["csv", "json", "jsonl", "parquet", "arrow"] | None = None
    """Only files of this kind; absent means every kind that we read."""
    shuffle_dataset: bool = True
    """Shuffle before the split."""
    shuffle_seed: int = 42
    """Seed of that shuffle."""
    context_column: str | None = None
    """The prompt's column."""
    response_column: str | None = None
    """The column of the answer, or of the whole text where there is no prompt."""
    messages_column: str | None = None
    """The column with a conversation."""
    train_test_split: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share that is trained on; the rest is held out."""


class DataCollator(Section):
    """How examples become batches."""

    mlm: bool = True
    """KAITO's default; it has no meaning for a model that predicts the next token, there and here."""
    pad_to_multiple_of: Annotated[int, Field(ge=1)] | None = None
    """Pad sequences to a multiple of this."""


class TrainingConfig(BaseModel):
    """A whole file, complete and checked."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    profile: ProfileName
    model: ModelConfig
    quantization: QuantizationConfig
    dataset: DatasetConfig
    collator: DataCollator
    lora: dict[str, Any]
    """Keyword arguments of peft's `LoraConfig`; `target_modules` may be absent."""
    training: dict[str, Any]
    """Keyword arguments of TRL's `SFTConfig`."""


_SECTIONS: Final = (
    "ModelConfig",
    "QuantizationConfig",
    "LoraConfig",
    "TrainingArguments",
    "DatasetConfig",
    "DataCollator",
)
_S = TypeVar("_S", bound=Section)


def load(
    raw: Mapping[str, Any],
    *,
    method: Literal["lora", "qlora"],
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> TrainingConfig:
    """Return the complete config: what the file says, over the profile's values.

    `raw` is what stands below the root key `training_config`; KAITO's six sections, and our `profile`.

    Raises:
        InvalidWorkspace: with every fault of the file.
    """
    faults: list[str] = []
    profile = raw.get("profile", "kaito")
    if profile not in ("kaito", "recommended"):
        faults.append(f"profile: {profile!r} is neither kaito nor recommended")
        profile = "kaito"
    faults += [unknown_name(name, ("profile", *_SECTIONS)) for name in raw if name not in ("profile", *_SECTIONS)]
    given = {name: _mapping(name, raw.get(name), faults) for name in _SECTIONS}
    values = {name: {**defaults(profile, method=method).get(name, {}), **given[name]} for name in _SECTIONS}
    if given["QuantizationConfig"].get("load_in_8bit") and "load_in_4bit" not in given["QuantizationConfig"]:
        values["QuantizationConfig"]["load_in_4bit"] = False

    model = _section(ModelConfig, values, faults)
    quantization = _section(QuantizationConfig, values, faults)
    dataset = _section(DatasetConfig, values, faults)
    collator = _section(DataCollator, values, faults)
    lora = library_fields.lora(values["LoraConfig"], faults)
    training = library_fields.training(values["TrainingArguments"], faults)
    if quantization:
        faults += _method_faults(method, quantization)
    if model:
        faults += _model_faults(model, revision=revision, trust_remote_code=trust_remote_code)
    if faults or not (model and quantization and dataset and collator):
        raise InvalidWorkspace(FIELD, "training_config.yaml: " + "; ".join(faults))
    return TrainingConfig(
        profile=profile,
        model=model,
        quantization=quantization,
        dataset=dataset,
        collator=collator,
        lora=lora,
        training=training,
    )


def fitted(config: TrainingConfig, *, device: Literal["cuda", "cpu"], longest_tokens: int) -> TrainingConfig:
    """Return the config with what its profile leaves to the hardware and to the longest example, in tokens."""
    if config.profile != "recommended":
        return config
    training = for_device(config.training, device=device, longest_tokens=longest_tokens)
    return config.model_copy(update={"training": training})


def _mapping(name: str, value: Any, faults: list[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.append(f"{name}: fields are expected, not {value!r}")
        return {}
    return dict(value)


def _section(cls: type[_S], values: Mapping[str, Mapping[str, Any]], faults: list[str]) -> _S | None:
    name = cls.__name__
    try:
        return cls.model_validate(values[name])
    except ValidationError as error:
        for fault in error.errors():
            field = str(fault["loc"][0])
            if fault["type"] == "extra_forbidden":
                faults.append(unknown_name(field, cls.model_fields, section=name))
            else:
                hint = cls.model_fields[field].description
                faults.append(f"{name}.{field}: {fault['msg']}, not {fault['input']!r} ({hint})")
    return None


def _method_faults(method: str, quantization: QuantizationConfig) -> list[str]:
    if quantization.load_in_4bit and quantization.load_in_8bit:
        return ["QuantizationConfig: load_in_4bit and load_in_8bit exclude each other"]
    if method == "lora" and quantization.bits != 16:
        return [
            f"QuantizationConfig: method lora does not quantise; set method: qlora or load_in_{quantization.bits}bit: false"
        ]
    if method == "qlora" and quantization.bits == 16:
        return ["QuantizationConfig: method qlora needs load_in_4bit or load_in_8bit"]
    return []


def _model_faults(model: ModelConfig, *, revision: str | None, trust_remote_code: bool) -> list[str]:
    faults = []
    if model.revision not in ("main", revision):
        faults.append(f"ModelConfig.revision: set tuning.preset.revision to {model.revision!r} instead")
    if model.trust_remote_code and not trust_remote_code:
        faults.append("ModelConfig.trust_remote_code: set tuning.preset.trustRemoteCode instead")
    return faults
