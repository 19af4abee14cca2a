import pytest

from deployments.routes.generate_kwargs import INSTEAD, GenerateKwargs, RefusedRequest, answer_tokens, parse, sampling

KAITO_DEFAULTS = {
    "max_length": 200,
    "min_length": 0,
    "do_sample": True,
    "early_stopping": False,
    "num_beams": 1,
    "temperature": 1.0,
    "top_k": 10,
    "top_p": 1,
    "typical_p": 1,
    "repetition_penalty": 1,
}


def test_kaitos_defaults_written_out_are_our_defaults() -> None:
    assert parse(KAITO_DEFAULTS) == parse({})


def test_defaults_as_vllm_reads_them() -> None:
    assert sampling(parse({}), prompt_tokens=7) == {
        "temperature": 1.0,
        "top_k": 10,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "stop": [],
        "seed": None,
    }


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        pytest.param({"do_sample": False, "temperature": 0.7}, "temperature", 0.0, id="greedy wins over temperature"),
        pytest.param({"min_length": 20}, "min_tokens", 13, id="min_length counts the prompt"),
        pytest.param({"min_length": 3}, "min_tokens", 0, id="min_length shorter than the prompt asks for nothing"),
        pytest.param({"min_new_tokens": 5, "min_length": 99}, "min_tokens", 5, id="min_new_tokens wins"),
        pytest.param({"stop_strings": ".", "stop": ["a", "b"]}, "stop", [".", "a", "b"], id="stop has two names"),
        pytest.param({"eos_token_id": 2}, "stop_token_ids", [2], id="eos_token_id ends the answer"),
        pytest.param({"eos_token_id": [2, 3]}, "ignore_eos", True, id="eos_token_id replaces the model's own"),
        pytest.param({"seed": 3}, "seed", 3, id="seed"),
        pytest.param({"num_beams": 3, "do_sample": False}, "use_beam_search", True, id="beams"),
        pytest.param({"num_beams": 3, "do_sample": False}, "n", 3, id="number of beams"),
    ],
)
def test_a_key_becomes_vllms_option(given: dict[str, object], field: str, value: object) -> None:
    assert sampling(parse(given), prompt_tokens=7)[field] == value


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"temprature": 1}, "generate_kwargs.temprature.*did you mean temperature", id="misspelt"),
        pytest.param({"zzz": 1}, "generate_kwargs.zzz: there is no such option$", id="unknown"),
        pytest.param({"typical_p": 0.5}, "generate_kwargs.typical_p: use top_p", id="not in vLLM"),
        pytest.param({"pad_token_id": 0}, "generate_kwargs.pad_token_id: .*leave it out", id="without effect here"),
        pytest.param({"cache_implementation": "static"}, "cache_implementation: vLLM computes", id="transformers' own"),
        pytest.param({"top_p": 2}, "generate_kwargs.top_p: input should be less", id="out of range"),
        pytest.param({"max_length": "many"}, "generate_kwargs.max_length: input should be", id="ill-typed"),
        pytest.param({"num_beams": 2}, "generate_kwargs.num_beams: .*do_sample: false", id="beams that sample"),
        pytest.param(
            {"num_beams": 2, "do_sample": False, "seed": 1}, "generate_kwargs.seed: .*beam", id="not with beams"
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(RefusedRequest, match=words):
        parse(given)


@pytest.mark.parametrize("key", sorted(INSTEAD))
def test_every_refusal_says_what_to_do(key: str) -> None:
    with pytest.raises(RefusedRequest, match=f"generate_kwargs.{key}: "):
        parse({key: "a value that changes something"})


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        pytest.param({}, 193, id="200 in all by default"),
        pytest.param({"max_length": 10}, 3, id="max_length counts the prompt"),
        pytest.param({"max_length": 10, "max_new_tokens": 50}, 50, id="max_new_tokens wins"),
    ],
)
def test_length_of_the_answer(given: dict[str, object], tokens: int) -> None:
    assert answer_tokens(parse(given), prompt_tokens=7) == tokens


def test_a_prompt_as_long_as_max_length_leaves_nothing() -> None:
    with pytest.raises(RefusedRequest, match=r"the prompt has 7 tokens, and 7.*max_new_tokens"):
        answer_tokens(GenerateKwargs(max_length=7), prompt_tokens=7)
