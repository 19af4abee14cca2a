"""Machines on offer."""

import pytest

from kaito_ray.api.workspace import ResourceSpec
from kaito_ray.controller.offers import NoMachine, offer
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import InvalidWorkspace
from kaito_ray.testing.builders import node

LOCAL = Settings(provider="local")
AZURE = Settings(provider="azure")


def asking(*types: str) -> ResourceSpec:
    first, rest = (types[0], types[1:]) if types else (None, ())
    return ResourceSpec.from_wire(
        {"labelSelector": {}, "instanceTypes": list(rest)} | ({"instanceType": first} if first else {})
    )


def test_locally_the_machine_is_the_node_with_its_true_capacity() -> None:
    (machine,) = offer(asking(), [node(cpu="2", memory="8Gi")], LOCAL).machines
    assert (machine.instance_type, machine.device, machine.cpus, machine.memory_bytes) == (
        "local",
        "cpu",
        2.0,
        8 * 2**30,
    )


def test_a_gpu_comes_before_a_cpu() -> None:
    found = offer(asking(), [node("a"), node("b", gpus=1)], LOCAL).machines
    assert [m.device for m in found] == ["cuda", "cpu"]


def test_what_is_not_here_is_substituted_and_named() -> None:
    found = offer(asking("p5.48xlarge"), [node()], LOCAL)
    assert (found.requested, found.reason) == ("p5.48xlarge", "InstanceTypeSubstituted")


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param([], id="none"),
        pytest.param([node(status={"conditions": [{"type": "Ready", "status": "False"}]})], id="none ready"),
        pytest.param([node(spec={"unschedulable": True})], id="cordoned"),
    ],
)
def test_without_a_usable_node_there_is_no_machine(nodes: list[dict[str, object]]) -> None:
    with pytest.raises(NoMachine):
        offer(asking(), nodes, LOCAL)


def test_in_a_cloud_the_planner_picks_from_current_gpu_machines_smallest_first() -> None:
    machines = offer(asking(), [], AZURE).machines
    memory = [m.gpu_count * m.gpu_memory_bytes for m in machines]
    assert memory == sorted(memory)
    assert all(m.provider == "azure" and m.device == "cuda" and not m.retired for m in machines)


def test_a_wish_is_kept_in_its_order() -> None:
    found = offer(asking("Standard_NC48ads_A100_v4", "Standard_NC24ads_A100_v4"), [], AZURE)
    assert [m.instance_type for m in found.machines] == ["Standard_NC48ads_A100_v4", "Standard_NC24ads_A100_v4"]
    assert found.requested is None


def test_a_retired_type_is_served_on_its_successor_and_both_are_named() -> None:
    found = offer(asking("Standard_NC6s_v3"), [], AZURE)
    assert (found.requested, found.reason) == ("Standard_NC6s_v3", "InstanceTypeRetired")
    assert not found.machines[0].retired


def test_an_installation_may_refuse_retired_types() -> None:
    with pytest.raises(InvalidWorkspace, match="retired"):
        offer(asking("Standard_NC6s_v3"), [], Settings(provider="azure", retired="refuse"))


def test_an_unknown_type_comes_with_near_names() -> None:
    with pytest.raises(InvalidWorkspace, match="Standard_NC24ads_A100_v4"):
        offer(asking("Standard_NC24ads_A100"), [], AZURE)
