"""Weights that do not come from the hub as the catalog says: fetched, planned, served by the real engine, answering.

One model of no catalog comes from a mirror of the hub that speaks its routes on loopback, one from a directory on this
machine, and a third is not there. A preset's weights come from an image in a real registry that asks for a password.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.adapters import OCI_LAYER, layer_of, tar
from tests.e2e.conftest import Plane
from tests.e2e.serving.hub import COMMIT, Hub, hub
from tests.registry import RunningRegistry, oci_layout, running_registry
from tests.tiny_model import make_whole

pytestmark = pytest.mark.engine

MIRRORED = "test-org/tiny-model"
LOCAL = "my-org/my-model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model, as a hub has it: config, weights and a tokenizer with a chat template."""
    return make_whole(tmp_path_factory.mktemp("models") / LOCAL)


@pytest.fixture(scope="module")
def mirror(model: Path) -> Iterator[Hub]:
    with hub({file.name: file.read_bytes() for file in model.iterdir()}, MIRRORED) as server:
        yield server


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry with a preset's weights in an image of one layer, as a build `FROM scratch` makes it."""
    weights = local_directory(find("smollm2-135m-instruct").source)
    root = tmp_path_factory.mktemp("registry")
    layer = tar({f"weights/{file.name}": file.read_bytes() for file in weights.iterdir() if file.is_file()})
    image = oci_layout(root / "image", [layer_of(layer, media_type=OCI_LAYER)], layer)
    with running_registry(root / "registry", with_password=True) as found:
        found.push_with_skopeo(image, "models/smollm2:1")
        yield found


@pytest.fixture(scope="module")
def plane(
    tmp_path_factory: pytest.TempPathFactory,
    model: Path,
    mirror: Hub,
    registry: RunningRegistry,  # before the cache is another one
    mounted: pytest.MonkeyPatch,
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


def workspace(name: str, model: str, **more: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": name},
            "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
            "inference": {"preset": {"name": model, **more}},
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


def test_a_presets_weights_come_from_an_image_of_a_registry(plane: Plane, registry: RunningRegistry) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": registry.docker_config()},
    }
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(secret))
    options = {"image": registry.image("models/smollm2:1"), "imagePullSecrets": ["pull"]}
    plane.kubectl("apply", "-f", "-", stdin=workspace("pulled", "smollm2-135m-instruct", presetOptions=options))
    plane.kubectl("wait", "workspace/pulled", "--for=condition=WorkspaceReady", "--timeout=240s", timeout_s=250)
    question = {"role": "user", "content": "What is the capital of France?"}
    ask = {"messages": [question], "generate_kwargs": {"temperature": 0}}
    answer = httpx.post(f"{plane.get('workspace', 'pulled')['status']['endpoint']}/chat", json=ask, timeout=60).json()
    assert "Paris" in answer["Result"]
    (kept,) = (Path(os.environ["KAITO_RAY_CACHE"]) / "models").glob("image-models-smollm2-sha256*/model.safetensors")
    assert kept.stat().st_size > 2e8
    plane.kubectl("delete", "workspace", "pulled", "--timeout=120s", timeout_s=150)


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
