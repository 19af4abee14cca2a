from pathlib import Path

import pytest
import yaml

from kaito_ray.catalog import gpus
from kaito_ray.errors import UserError

MIB = 2**20


def node(labels: dict[str, str] | None = None, **capacity: str) -> dict[str, object]:
    return {"metadata": {"name": "n1", "labels": labels or {}}, "status": {"capacity": capacity}}


GFD = {
    "node.kubernetes.io/instance-type": "bare-metal",
    "nvidia.com/gpu.product": "NVIDIA-A10",
    "nvidia.com/gpu.memory": "23028",
    "nvidia.com/cuda.compute.major": "8",
    "nvidia.com/cuda.compute.minor": "6",
}


def test_every_row_has_a_source_and_a_sensible_size() -> None:
    for m in gpus.machines():
        assert m.source in {"kaito", "unverified"}, m
        assert (m.gpu_count > 0) == (m.device == "cuda"), m
        assert m.device == "cpu" or 7 * 1024 * MIB < m.gpu_memory_bytes < 200 * 1024 * MIB, m
        assert (m.compute_capability is not None) == (m.vendor == "nvidia"), m


def test_every_gpu_has_a_source() -> None:
    document = yaml.safe_load(Path(gpus.__file__).with_name("machines.yaml").read_text(encoding="utf-8"))
    sources = {name: gpu.get("source") for name, gpu in document["gpus"].items() if name != "none"}
    assert set(sources.values()) == {"driver", "unverified"}
    assert {row["gpu"] for row in document["machines"]} == {*sources, "none"}


def test_instance_types_are_unique_whatever_their_case() -> None:
    names = [m.instance_type.lower() for m in gpus.machines()]
    assert len(names) == len(set(names)) == len(gpus.machines("azure") + gpus.machines("aws") + gpus.machines("arc"))


def test_case_does_not_matter() -> None:
    found = gpus.machine("STANDARD_nc24ads_a100_V4")
    assert found is not None
    assert (found.instance_type, found.gpu) == ("Standard_NC24ads_A100_v4", "1 x NVIDIA A100")
    assert gpus.machine("Standard_NC24ads_A100_v9") is None


@pytest.mark.parametrize("name", [m.instance_type for m in gpus.machines() if m.retired])
def test_a_retired_type_is_replaced_by_a_current_one_of_its_provider_with_enough_memory(name: str) -> None:
    old = gpus.machine(name)
    assert old is not None
    new = gpus.current(old)
    assert not new.retired
    assert new.provider == old.provider
    assert new.gpu_count * new.gpu_memory_bytes >= old.gpu_count * old.gpu_memory_bytes
    assert (new.compute_capability or 0) >= 7.5


def test_a_current_type_is_itself() -> None:
    current = gpus.machine("g6.xlarge")
    assert current is not None
    assert gpus.current(current) is current


def test_the_quick_start_s_v100_is_served_on_an_a10() -> None:
    old = gpus.machine("Standard_NC6s_v3")
    assert old is not None
    assert old.retired
    assert gpus.current(old).instance_type == "Standard_NV36ads_A10_v5"


@pytest.mark.parametrize(("capability", "first"), [(7.5, "float16"), (8.0, "bfloat16"), (None, "bfloat16")])
def test_types_by_compute_capability(capability: float | None, first: str) -> None:
    assert gpus.dtypes_of(capability)[0] == first


def test_a_node_with_gpu_labels_is_what_they_say() -> None:
    found = gpus.machine_of_node(node(GFD, **{"nvidia.com/gpu": "2", "cpu": "36", "memory": "440Gi"}))
    assert (found.instance_type, found.gpu) == ("bare-metal", "2 x NVIDIA-A10")
    assert (found.gpu_memory_bytes, found.compute_capability) == (23028 * MIB, 8.6)
    assert (found.cpus, found.memory_bytes, found.source) == (36, 440 * 2**30, "node labels")


def test_a_node_without_them_is_its_instance_type() -> None:
    labels = {"node.kubernetes.io/instance-type": "g6.12xlarge"}
    found = gpus.machine_of_node(node(labels, **{"nvidia.com/gpu": "3", "cpu": "47", "memory": "180Gi"}))
    assert (found.gpu, found.cpus) == ("3 x NVIDIA L4", 47)


def test_a_node_of_an_unknown_type_is_what_karpenter_s_labels_say() -> None:
    labels = {
        "node.kubernetes.io/instance-type": "g9.xlarge",
        "karpenter.k8s.aws/instance-gpu-name": "t4",
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-gpu-memory": "16384",
    }
    found = gpus.machine_of_node(node(labels, **{"nvidia.com/gpu": "2"}))
    assert (found.gpu, found.gpu_memory_bytes) == ("2 x NVIDIA T4", 16384 * MIB)
    assert (found.compute_capability, found.dtypes[0]) == (7.5, "float16")


def test_each_type_has_the_labels_that_karpenter_gives_its_nodes() -> None:
    aws, azure, cpu = (gpus.machine(n) for n in ("g5.12xlarge", "Standard_NC48ads_A100_v4", "Standard_D4s_v5"))
    assert aws and azure and cpu
    assert aws.karpenter_labels == {
        "node.kubernetes.io/instance-type": "g5.12xlarge",
        "karpenter.k8s.aws/instance-gpu-name": "a10g",
        "karpenter.k8s.aws/instance-gpu-count": "4",
        "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
        "karpenter.k8s.aws/instance-gpu-memory": "23552",
    }
    assert azure.karpenter_labels["karpenter.azure.com/sku-gpu-name"] == "A100"
    assert azure.karpenter_labels["karpenter.azure.com/sku-gpu-count"] == "2"
    assert cpu.karpenter_labels == {"node.kubernetes.io/instance-type": "Standard_D4s_v5"}


def test_a_node_with_unknown_gpus_says_which_labels_are_needed() -> None:
    with pytest.raises(UserError, match=r"node 'n1' has 1 GPUs of unknown memory.*nvidia.com/gpu.memory"):
        gpus.machine_of_node(node(**{"nvidia.com/gpu": "1"}))


def test_a_node_without_gpus_is_its_cpus() -> None:
    found = gpus.machine_of_node(node({"node.kubernetes.io/instance-type": "local"}, cpu="3500m", memory="24637672Ki"))
    assert (found.device, found.gpu, found.vendor) == ("cpu", "CPU", "none")
    assert (found.cpus, found.memory_bytes) == (3.5, 24637672 * 1024)


def test_a_node_with_amd_gpus_is_not_taken_for_its_cpus() -> None:
    found = gpus.machine_of_node(node(**{"amd.com/gpu": "8", "cpu": "96", "memory": "1850Gi"}))
    assert (found.vendor, found.device, found.gpu) == ("amd", "cuda", "8 x AMD GPU")


def test_a_node_without_an_instance_type_has_its_own_name() -> None:
    assert gpus.machine_of_node(node(cpu="2", memory="1Gi")).instance_type == "n1"


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), ("3500m", 3.5), ("1Ki", 1024), ("1k", 1000), ("1.5Gi", 1.5 * 2**30), ("1e3", 1000)]
)
def test_quantities(text: str, value: float) -> None:
    assert gpus.quantity(text) == value


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity: '1 GB'"):
        gpus.quantity("1 GB")


def test_prices_come_from_the_user() -> None:
    assert all(m.price_per_hour is None for m in gpus.machines())
    priced = gpus.with_prices(gpus.machines("aws"), {"G6.XLARGE": 0.8})
    assert {m.instance_type: m.price_per_hour for m in priced if m.price_per_hour} == {"g6.xlarge": 0.8}
