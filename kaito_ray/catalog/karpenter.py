"""The labels that Karpenter puts on a node of an instance type, and what they say of a type that is in no catalog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kaito_ray.catalog.gpus import Machine

INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
AWS: Final = "karpenter.k8s.aws/instance-gpu-"
AZURE: Final = "karpenter.azure.com/sku-gpu-"
_PREFIXES: Final = {"aws": AWS, "azure": AZURE}
_ROUNDED_MIB: Final = 1024
"""AWS publishes GPU memory in whole GiB, as MiB."""


def labels(machine: Machine) -> dict[str, str]:
    """Return the labels by which Karpenter selects and marks nodes of that type.

    Source: Karpenter's AWS and Azure providers; Azure has no label for the memory of a GPU.
    """
    found = {INSTANCE_TYPE: machine.instance_type}
    prefix = _PREFIXES.get(machine.provider)
    if prefix is None or not machine.gpu_model or machine.vendor not in ("nvidia", "amd"):
        return found
    name = machine.gpu_model.rpartition(" ")[2]
    found[f"{prefix}name"] = name.lower() if prefix == AWS else name
    found[f"{prefix}count"] = str(machine.gpu_count)
    found[f"{prefix}manufacturer"] = machine.vendor
    if prefix == AWS:
        found[f"{prefix}memory"] = str(-(-machine.gpu_memory_bytes // 2**30) * _ROUNDED_MIB)
    return found


def gpu_of(labels_: Mapping[str, str]) -> tuple[str, int] | None:
    """Return model and memory in MiB of a node's NVIDIA GPU, where Karpenter's labels say both; else None."""
    memory, name = labels_.get(f"{AWS}memory"), labels_.get(f"{AWS}name")
    if not (memory and name) or labels_.get(f"{AWS}manufacturer", "nvidia") != "nvidia":
        return None
    return f"NVIDIA {name.upper()}", int(memory)
