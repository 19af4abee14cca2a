"""What the operator is told of engine image and prices decides which machines serve."""

from pathlib import Path

import pytest

from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.planning import plan
from kaito_ray.controller.settings import Settings, from_arguments
from kaito_ray.errors import UnsupportedGPU, UserError
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.serve_config import app_args
from kaito_ray.testing.builders import node, workspace

V100 = node(
    "own",
    gpus=1,
    metadata={
        "labels": {
            "node.kubernetes.io/instance-type": "bare",
            "nvidia.com/gpu.product": "Tesla-V100",
            "nvidia.com/gpu.memory": "16384",
            "nvidia.com/cuda.compute.major": "7",
            "nvidia.com/cuda.compute.minor": "0",
        }
    },
)
SEEN = Observed(workspace=Workspace.from_wire(workspace()), manifest=workspace(), nodes=(V100,))


def settings(*arguments: str) -> Settings:
    return from_arguments(["--provisioner", "byo", *arguments], {})


def test_a_v100_of_one_s_own_is_refused_by_the_image_that_is_shipped() -> None:
    with pytest.raises(UnsupportedGPU, match=r"compute capability 7.0, the CUDA 13 engine image needs 7.5"):
        plan(SEEN, settings())


def test_with_an_image_of_an_older_cuda_it_serves_in_float16() -> None:
    found = plan(SEEN, settings("--engine-cuda", "12")).plan
    assert (found.machine.gpu, found.dtype) == ("1 x Tesla-V100", "float16")


def test_where_no_type_is_named_the_operator_picks_by_the_prices_that_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("{Standard_ND96isr_H100_v5: 0.5, Standard_NC24ads_A100_v4: 3.7}")
    seen = Observed(workspace=Workspace.from_wire(workspace()), manifest=workspace())
    assert plan(seen, from_arguments([], {})).plan.machine.instance_type == "Standard_NC4as_T4_v3"
    found = plan(seen, from_arguments(["--prices", str(file)], {})).plan
    assert found.machine.instance_type == "Standard_ND96isr_H100_v5"
    assert "the lowest price" in found.why[0]


FROM_IMAGE = workspace(
    inference={
        "preset": {
            "name": "llama-3.1-8b-instruct",
            "presetOptions": {"image": "registry.example.com/llama:1", "imagePullSecrets": ["pull"]},
        }
    }
)


def test_weights_from_an_image_are_pulled_with_its_secret_and_need_no_token_of_the_hub() -> None:
    secret = {"data": {".dockerconfigjson": "e30="}}
    seen = Observed(Workspace.from_wire(FROM_IMAGE), FROM_IMAGE, pull_secrets={"pull": secret})
    inputs = plan(seen, from_arguments([], {})).inputs
    assert inputs.pull_secrets == {"pull.json": "e30="}
    source = app_args(inputs).source
    # The hub's name stays: adapters say which model they were made for.
    assert (source.image, source.hub) == ("registry.example.com/llama:1", "meta-llama/Llama-3.1-8B-Instruct")
    pod = rayservice(inputs)["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    asked = int(pod["containers"][0]["resources"]["requests"]["ephemeral-storage"].removesuffix("Mi")) * 2**20
    assert asked > 2 * inputs.plan.preset.weights_bytes + 10 * 2**30


def test_a_secret_to_pull_weights_with_that_is_missing_is_named() -> None:
    seen = Observed(Workspace.from_wire(FROM_IMAGE), FROM_IMAGE)
    with pytest.raises(
        UserError, match=r"^inference\.preset\.presetOptions\.imagePullSecrets: there is no Secret pull"
    ):
        plan(seen, from_arguments([], {}))
