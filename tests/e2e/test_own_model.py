"""A Workspace that names a model of no catalog: fetched by the operator, planned, served by the real engine, answering.

One model comes from a mirror of the hub that speaks its routes on loopback, one from a directory on this machine; a
third is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from tests.e2e.conftest import Plane
from tests.e2e.serving.hub import COMMIT, Hub, hub
from tests.tiny_model import VOCABULARY, make_base

pytestmark = pytest.mark.engine

MIRRORED = "test-org/tiny-model"
LOCAL = "my-org/my-model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model, as a hub has it: config, weights and a tokenizer with a chat template."""
    folder = tmp_path_factory.mktemp("models") / LOCAL
    make_base(folder)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mirror(model: Path) -> Iterator[Hub]:
    with hub({file.name: file.read_bytes() for file in model.iterdir()}, MIRRORED) as server:
        yield server


@pytest.fixture(scope="module")
def plane(
    tmp_path_factory: pytest.TempPathFactory, model: Path, mirror: Hub, mounted: pytest.MonkeyPatch
) -> Iterator[Plane]:
    """A control plane whose hub is the mirror, and which has a directory of models."""
    mounted.setenv("HF_ENDPOINT", mirror.url)
    mounted.setenv("HF_HUB_DISABLE_XET", "1")
    mounted.setenv("KAITO_RAY_MODELS_DIR", str(model.parents[1]))
    mounted.setenv("KAITO_RAY_CACHE", str(tmp_path_factory.mktemp("cache")))
    started = Plane(tmp_path_factory.mktemp("own") / "home")
    try:
        started.cli("up", "--detach")
        yield started
    finally:
        started.cli("down")


@pytest.fixture(scope="module")
def mounted() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def workspace(name: str, model: str) -> str:
    return json.dumps(
        {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": name},
            "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
            "inference": {"preset": {"name": model}},
        }
    )


def test_models_of_a_mirror_and_of_a_directory_are_planned_served_and_answer(plane: Plane, mirror: Hub) -> None:
    plane.kubectl("apply", "-f", "-", stdin=workspace("mirrored", MIRRORED))
    plane.kubectl("apply", "-f", "-", stdin=workspace("here", LOCAL))
    for name, served in (("mirrored", "tiny-model"), ("here", "my-model")):
        plane.kubectl("wait", f"workspace/{name}", "--for=condition=WorkspaceReady", "--timeout=240s", timeout_s=250)
        status = plane.get("workspace", name)["status"]
        assert status["plan"]["contextLengthTokens"] == 1024
        ask = {"model": served, "prompt": "w3 w4 w5", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
        answer = httpx.post(f"{status['endpoint']}/v1/completions", json=ask, timeout=60).json()
        assert answer["usage"]["completion_tokens"] == 4
    assert COMMIT in plane.get("rayservice", "mirrored")["spec"]["serveConfigV2"]
    assert "model.safetensors" in mirror.fetched
    plane.kubectl("delete", "workspace", "--all", "--timeout=120s", timeout_s=150)


def test_a_model_that_the_hub_does_not_have_is_told_with_the_nearest_preset(plane: Plane) -> None:
    plane.kubectl("apply", "-f", "-", stdin=workspace("absent", "microsoft/phi-4-minim-instruct"))
    plane.kubectl(
        "wait",
        "workspace/absent",
        "--for=jsonpath={.status.conditions[?(@.type=='WorkspaceReady')].reason}=ModelNotFound",
        "--timeout=60s",
    )
    (told,) = [c for c in plane.get("workspace", "absent")["status"]["conditions"] if c["type"] == "WorkspaceReady"]
    assert "did you mean phi-4-mini-instruct" in told["message"]
    assert "is not a model of a hub" in plane.kubectl(
        "apply", "-f", "-", ok=False, stdin=workspace("bad", "microsoft/phi-4/../x")
    )
    plane.kubectl("delete", "workspace", "absent", "--timeout=60s")
