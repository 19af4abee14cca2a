"""What the worker image was built with decides which GPUs of one's own may serve."""

import pytest

from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.planning import plan
from kaito_ray.controller.settings import Settings, from_arguments
from kaito_ray.errors import UnsupportedGPU
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
