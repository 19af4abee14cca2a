import dataclasses
from pathlib import Path

import pytest
import yaml
from trl import SFTConfig

from kaito_ray.errors import InvalidWorkspace
from tuning import config, library_fields
from tuning.config import load


def test_without_a_file_the_values_are_kaitos() -> None:
    got = load({}, method="qlora")
    assert got.lora == {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
    assert got.training["per_device_train_batch_size"] == 1
    assert got.training["num_train_epochs"] == 3
    assert (got.quantization.bits, got.quantization.bnb_4bit_quant_type) == (4, "nf4")
    assert got.dataset.train_test_split == 1


def test_lora_does_not_quantise() -> None:
    assert load({}, method="lora").quantization.bits == 16


def test_eight_bits_replace_the_four_of_the_template() -> None:
    assert load({"QuantizationConfig": {"load_in_8bit": True}}, method="qlora").quantization.bits == 8


def test_the_file_wins_over_the_profile() -> None:
    raw = {"profile": "recommended", "LoraConfig": {"r": 4}}
    got = load(raw, method="qlora")
    assert (got.lora["r"], got.lora["lora_alpha"], got.training["packing"]) == (4, 32, True)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert load({"TrainingArguments": {"learning_rate": "1e-4"}}, method="lora").training["learning_rate"] == 1e-4


def test_kaitos_own_template_is_accepted() -> None:
    raw = {
        "ModelConfig": {"torch_dtype": "bfloat16", "local_files_only": True, "device_map": "auto"},
        "QuantizationConfig": {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": "bfloat16",
            "bnb_4bit_use_double_quant": True,
        },
        "LoraConfig": {"r": 8, "lora_alpha": 8, "lora_dropout": 0.0},
        "TrainingArguments": {
            "output_dir": "/mnt/results",
            "ddp_find_unused_parameters": False,
            "save_strategy": "no",
            "per_device_train_batch_size": 1,
        },
        "DataCollator": {"mlm": True},
        "DatasetConfig": {"shuffle_dataset": True, "train_test_split": 1},
    }
    assert load(raw, method="qlora").training["save_strategy"] == "no"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param({"TrainingArgs": {}}, "did you mean TrainingArguments", id="an unknown section, with the nearest"),
        pytest.param({"LoraConfig": {"lora_alfa": 1}}, "did you mean lora_alpha", id="an unknown field of peft's"),
        pytest.param({"TrainingArguments": {"learning_rte": 1}}, "did you mean learning_rate", id="one of TRL's"),
        pytest.param({"DatasetConfig": {"shuffle": True}}, "did you mean shuffle_seed", id="one of KAITO's"),
        pytest.param({"TrainingArguments": {"push_to_hub": True}}, "tuning.output", id="an upload elsewhere"),
        pytest.param({"TrainingArguments": {"output_dir": "/etc"}}, "below /mnt", id="a path outside"),
        pytest.param(
            {"TrainingArguments": {"output_dir": "/mnt/../etc"}}, "below /mnt", id="a path that leads outside"
        ),
        pytest.param({"TrainingArguments": {"output_dir": "/mnt"}}, "below /mnt", id="KAITO's own rule on /mnt"),
        pytest.param({"TrainingArguments": {"max_steps": "many"}}, "max_steps", id="a wrong type"),
        pytest.param({"LoraConfig": {"r": 0}}, "LoraConfig.r", id="a rank that is none"),
        pytest.param(
            {"LoraConfig": {"init_lora_weights": "pissa"}}, "base weights", id="a start that changes the base"
        ),
        pytest.param({"ModelConfig": {"trust_remote_code": True}}, "trustRemoteCode", id="remote code"),
        pytest.param({"ModelConfig": {"revision": "abc"}}, "tuning.preset.revision", id="another revision"),
        pytest.param({"ModelConfig": {"cache_dir": "/root"}}, "KAITO_RAY_CACHE", id="a cache of one's own"),
        pytest.param({"QuantizationConfig": {"load_in_4bit": True}}, "does not quantise", id="bits for lora"),
        pytest.param({"ModelConfig": 3}, "fields are expected", id="a section that is none"),
        pytest.param({"profile": "fast"}, "neither kaito nor recommended", id="an unknown profile"),
    ],
)
def test_refused(raw: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidWorkspace, match=words) as caught:
        load(raw, method="lora")
    assert caught.value.field == config.FIELD


def test_qlora_needs_bits() -> None:
    with pytest.raises(InvalidWorkspace, match="needs load_in_4bit"):
        load({"QuantizationConfig": {"load_in_4bit": False}}, method="qlora")


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(InvalidWorkspace, match=r"LoraConfig\.rank.*TrainingArguments\.epochs"):
        load({"LoraConfig": {"rank": 1}, "TrainingArguments": {"epochs": 1}}, method="lora")


def test_what_the_preset_allows_may_be_written() -> None:
    raw = {"ModelConfig": {"revision": "v2", "trust_remote_code": True}}
    assert load(raw, method="lora", revision="v2", trust_remote_code=True).model.trust_remote_code


def test_every_refused_field_exists() -> None:
    """A field that the library renames would be accepted under its new name; this says so."""
    assert set(library_fields._TRAINING_REFUSED) <= {field.name for field in dataclasses.fields(SFTConfig)}


def test_the_examples_config_is_accepted() -> None:
    file = Path(__file__).parents[3] / "examples" / "tuning" / "smollm2.training_config.yml"
    got = load(yaml.safe_load(file.read_text())["training_config"], method="qlora")
    assert (got.profile, got.training["learning_rate"]) == ("recommended", 1e-3)
