"""`inference_config.yaml`: what is honoured, what is refused, by name."""

import pytest

from kaito_ray.errors import InvalidWorkspace
from kaito_ray.render.inference_config import InferenceConfig, parse


def config(text: str | None) -> dict[str, object]:
    return {"metadata": {"name": "mine"}, "data": {} if text is None else {"inference_config.yaml": text}}


def test_kebab_and_snake_case_are_the_same_option() -> None:
    expected = InferenceConfig(planned={"max_model_len": 2048}, engine={"max_num_seqs": 4})
    for text in (
        "vllm: {max-model-len: 2048, max-num-seqs: 4}",
        "vllm: {max_num_seqs: 4, max_model_len: 2048}",
    ):
        assert parse(config(text)) == expected


@pytest.mark.parametrize("text", ["", "vllm:", "vllm: {}"])
def test_an_empty_config_asks_for_nothing(text: str) -> None:
    assert parse(config(text)) == InferenceConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "no key inference_config.yaml", id="no key"),
        pytest.param("vllm: [", "is not YAML", id="no YAML"),
        pytest.param("- a", "must be a mapping", id="a list"),
        pytest.param("vllm: 3", "must be a mapping", id="options that are no mapping"),
        pytest.param("port: 3", "port: it is not an option here", id="an option outside vllm"),
        pytest.param("max_probe_steps: 6", "max_probe_steps: the context is computed", id="KAITO's own"),
        pytest.param("vllm: {model: x}", "vllm.model: inference.preset.name decides it", id="another field's"),
        pytest.param(
            "vllm: {trust-remote-code: true}", "inference.preset.trustRemoteCode decides it", id="remote code"
        ),
        pytest.param("vllm: {api-key: x}", "inference.apiKeysSecret decides it", id="a key in plain text"),
        pytest.param("vllm: {middleware: x}", "vllm.middleware: it is not among", id="a door"),
        pytest.param("vllm: {max-num-seq: 3}", "did you mean max_num_seqs", id="a slip"),
        pytest.param("vllm: {max-num-seqs: many}", "'many' is not of type int", id="no number"),
        pytest.param("vllm: {max-num-seqs: true}", "True is not of type int", id="a bool for a number"),
        pytest.param("vllm: {enforce-eager: 1}", "1 is not of type bool", id="a number for a bool"),
    ],
)
def test_refuses_by_name(text: str | None, words: str) -> None:
    with pytest.raises(InvalidWorkspace, match=r"^inference\.config \(mine\)") as refused:
        parse(config(text))
    assert words in str(refused.value)
