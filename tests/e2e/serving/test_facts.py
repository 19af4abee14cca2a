"""What the operator and `kaito-ray plan` read of a model that is in no catalog, from a real HTTP server and a directory."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaito_ray.weights import facts
from kaito_ray.weights.problems import ModelAccessDenied, ModelNotFound, SourceUnreachable, WeightsUnavailable
from tests.e2e.serving.hub import COMMIT, REPOSITORY, Hub, hub

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "model-00001-of-00002.safetensors": b"s" * 700,
    "model-00002-of-00002.safetensors": b"s" * 300,
    "model.safetensors.index.json": json.dumps({"metadata": {"total_size": 990}}).encode(),
    "consolidated.safetensors": b"the same, in another form" * 100,
    "pytorch_model.bin": b"a pickle",
    "onnx/model.safetensors": b"another",
}


@pytest.fixture
def model_hub() -> Iterator[Hub]:
    with hub(dict(FILES)) as server:
        yield server


def test_a_model_is_known_by_its_config_its_commit_and_the_size_of_its_weights(model_hub: Hub) -> None:
    found = facts.of_hub(REPOSITORY, hub=model_hub.url)
    assert (found.config, found.weights_bytes, found.commit) == (CONFIG, 1000, COMMIT)
    assert (found.license, found.gated) == ("mit", False)
    assert model_hub.fetched == ["config.json"], "the weights are not touched"


def test_without_sizes_in_the_list_the_index_says_the_sum(model_hub: Hub) -> None:
    model_hub.with_sizes = False
    assert facts.of_hub(REPOSITORY, hub=model_hub.url).weights_bytes == 990


def test_without_an_index_each_file_is_asked(model_hub: Hub) -> None:
    model_hub.with_sizes = False
    del model_hub.files["model.safetensors.index.json"]
    assert facts.of_hub(REPOSITORY, hub=model_hub.url).weights_bytes == 1000
    assert model_hub.fetched == ["config.json"]


def test_a_gated_model_is_opened_by_a_token(model_hub: Hub) -> None:
    model_hub.token = "right"
    assert facts.of_hub(REPOSITORY, hub=model_hub.url, token="right").gated
    for token in (None, "wrong"):
        with pytest.raises(ModelAccessDenied, match="accept its licence"):
            facts.of_hub(REPOSITORY, hub=model_hub.url, token=token)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        pytest.param(401, ModelNotFound, "or it is private", id="unknown or private"),
        pytest.param(404, ModelNotFound, "has no revision 'v9'", id="no such revision"),
        pytest.param(503, SourceUnreachable, "failed on org/model with 503", id="out of order"),
        pytest.param(429, SourceUnreachable, "with 429", id="too many requests"),
    ],
)
def test_what_a_hub_refuses_is_told_apart(model_hub: Hub, status: int, error: type[Exception], words: str) -> None:
    model_hub.status = status
    with pytest.raises(error, match=words):
        facts.of_hub(REPOSITORY, "v9", hub=model_hub.url)


def test_a_hub_out_of_reach_is_named() -> None:
    with pytest.raises(SourceUnreachable, match=r"http://127.0.0.1:9\) cannot be reached"):
        facts.of_hub(REPOSITORY, hub="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param(b" " * (facts.CONFIG_LIMIT_BYTES + 1), "is larger than", id="too large"),
        pytest.param(b"<html>", "is not JSON", id="no JSON"),
        pytest.param(b"[]", "is not a JSON object", id="a list"),
    ],
)
def test_an_answer_that_is_no_config_is_refused(model_hub: Hub, config: bytes, words: str) -> None:
    model_hub.files["config.json"] = config
    with pytest.raises(WeightsUnavailable, match=words):
        facts.of_hub(REPOSITORY, hub=model_hub.url)


def test_a_repository_without_weights_or_config_is_no_model(model_hub: Hub) -> None:
    model_hub.files = {"config.json": FILES["config.json"]}
    with pytest.raises(WeightsUnavailable, match=r"no \*.safetensors"):
        facts.of_hub(REPOSITORY, hub=model_hub.url)
    model_hub.files = {"README.md": b"data"}
    with pytest.raises(WeightsUnavailable, match=r"has no config.json"):
        facts.of_hub(REPOSITORY, hub=model_hub.url)


def test_the_plan_of_a_hub_s_model_needs_no_cluster(model_hub: Hub) -> None:
    done = plan("--model", REPOSITORY, "--gpu", "Standard_NC4as_T4_v3", HF_ENDPOINT=model_hub.url)
    assert done.returncode == 0, done.stderr
    assert "1 x Standard_NC4as_T4_v3" in done.stdout
    assert "512 tokens" in done.stdout


def test_the_plan_of_a_manifest_that_names_a_hub_s_model(model_hub: Hub, tmp_path: Path) -> None:
    manifest = {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": "mine"},
        "resource": {"instanceType": "g6.xlarge", "labelSelector": {"matchLabels": {"apps": "mine"}}},
        "inference": {"preset": {"name": REPOSITORY}},
    }
    file = tmp_path / "workspace.yaml"
    file.write_text(json.dumps(manifest))
    done = plan("--filename", str(file), HF_ENDPOINT=model_hub.url)
    assert done.returncode == 0, done.stderr
    assert "1 x g6.xlarge" in done.stdout


def test_the_plan_of_a_directory_needs_no_hub(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        (folder / name).write_bytes(FILES[name])
    done = plan("--model", str(folder), "--gpu", "g6.xlarge", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "model       mine" in done.stdout


def test_a_plan_without_a_hub_says_what_to_do() -> None:
    done = plan("--model", REPOSITORY, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 2
    assert "--model: the hub (http://127.0.0.1:9) cannot be reached" in done.stderr
    assert "set HF_ENDPOINT to a mirror" in done.stderr


def test_a_model_that_is_not_there_brings_the_nearest_presets(model_hub: Hub) -> None:
    done = plan("--model", "microsoft/phi-4-minim-instruct", HF_ENDPOINT=model_hub.url)
    assert done.returncode == 2
    assert "did you mean phi-4-mini-instruct" in done.stderr


def plan(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("kaito-ray"), "plan", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
