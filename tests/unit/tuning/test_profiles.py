import pytest

from tuning.config import fitted, load


def test_the_recommended_profile_packs_long_sequences_on_a_gpu_and_recomputes_activations() -> None:
    config = fitted(load({"profile": "recommended"}, method="qlora"), device="cuda", longest_tokens=40)
    assert (config.training["max_length"], config.training["gradient_checkpointing"]) == (2048, True)


@pytest.mark.parametrize(
    ("longest", "length"),
    [
        pytest.param(40, 256, id="short examples"),
        pytest.param(700, 704, id="the longest is not cut"),
        pytest.param(9000, 2048, id="never beyond the GPU's length"),
    ],
)
def test_on_a_cpu_a_sequence_is_just_long_enough(longest: int, length: int) -> None:
    config = fitted(load({"profile": "recommended"}, method="qlora"), device="cpu", longest_tokens=longest)
    assert (config.training["max_length"], config.training["gradient_checkpointing"]) == (length, False)


def test_what_the_author_says_is_not_touched() -> None:
    raw = {"profile": "recommended", "TrainingArguments": {"max_length": 99, "gradient_checkpointing": True}}
    config = fitted(load(raw, method="qlora"), device="cpu", longest_tokens=700)
    assert (config.training["max_length"], config.training["gradient_checkpointing"]) == (99, True)


def test_kaitos_profile_is_left_to_trl() -> None:
    config = load({}, method="qlora")
    assert fitted(config, device="cpu", longest_tokens=700) == config
