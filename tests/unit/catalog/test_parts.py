"""A part of a node: some of its GPUs, or one MIG slice."""

from typing import Any

import pytest

from kaito_ray.api.workspace import PartitionSpec
from kaito_ray.catalog.parts import NoSuchPart, part_of_node
from kaito_ray.errors import InvalidWorkspace
from kaito_ray.testing.builders import Manifest, merged, node

A100 = {
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.memory": "81920",
    "nvidia.com/gpu.count": "2",
    "nvidia.com/cuda.compute.major": "8",
    "nvidia.com/cuda.compute.minor": "0",
}


def gpu_node(**capacity: Any) -> Manifest:
    """Return a node with two A100, 32 CPUs and 256 GiB."""
    made = node(cpu="32", memory="256Gi", metadata={"labels": A100})
    return merged(made, {"status": {"capacity": capacity, "allocatable": capacity}})


def mig(profile: str) -> PartitionSpec:
    return PartitionSpec(mode="mig", profile=profile)


WHOLE = gpu_node(**{"nvidia.com/gpu": "2"})
DIVIDED = gpu_node(**{"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "14", "nvidia.com/mig-1g.10gb.me": "2"})


def test_some_gpus_come_with_their_share_of_the_node() -> None:
    part = part_of_node(WHOLE, PartitionSpec(mode="accelerator", count=1))
    assert (part.gpu_count, part.gpu_memory_bytes, part.gpu_resource) == (1, 80 * 2**30, "nvidia.com/gpu")
    assert (part.cpus, part.memory_bytes) == (16, 128 * 2**30)


def test_all_gpus_are_the_node() -> None:
    part = part_of_node(WHOLE, PartitionSpec(mode="accelerator", count=2))
    assert (part.gpu_count, part.cpus) == (2, 32)


@pytest.mark.parametrize("given", [WHOLE, node()])
def test_more_gpus_than_there_are_is_told(given: Manifest) -> None:
    with pytest.raises(NoSuchPart, match=r"resource\.partition\.count: node-a has \d GPUs, not 3"):
        part_of_node(given, PartitionSpec(mode="accelerator", count=3))


def test_a_slice_has_its_profiles_memory_and_resource() -> None:
    part = part_of_node(DIVIDED, mig("1g.10gb"))
    assert (part.gpu_count, part.gpu_memory_bytes, part.device) == (1, 10 * 10**9, "cuda")
    assert (part.gpu_resource, part.compute_capability) == ("nvidia.com/mig-1g.10gb", 8.0)
    assert part.gpu == "1 x NVIDIA-A100-SXM4-80GB (nvidia.com/mig-1g.10gb)"
    assert part.cpus is not None
    assert part.cpus <= 32 / 14


def test_a_slice_with_media_engines_has_another_resource() -> None:
    part = part_of_node(DIVIDED, mig("1g.10gb+me"))
    assert part.gpu_resource == "nvidia.com/mig-1g.10gb.me"
    # Two of them do not make half of the node each: others share it too.
    assert part.cpus is not None
    assert part.cpus < 3


def test_a_node_without_such_slices_is_told() -> None:
    with pytest.raises(NoSuchPart, match=r"node-a reports no nvidia\.com/mig-3g\.40gb"):
        part_of_node(DIVIDED, mig("3g.40gb"))


@pytest.mark.parametrize("profile", ["", "10gb", "1g.10gb; rm", "9g.10gb", f"1g.{'9' * 5000}gb"])
def test_what_is_no_profile_is_refused(profile: str) -> None:
    with pytest.raises(InvalidWorkspace, match=r"resource\.partition\.profile"):
        part_of_node(DIVIDED, mig(profile))
