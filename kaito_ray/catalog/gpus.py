"""Machines: what an instance type, or a node of one's own, offers a model.

The rows are data (`machines.yaml`), each with its source. GPU memory is what the driver reports, which is less than
the number on the box: a "24 GB" A10 has 22.5 GiB. Prices are nobody's fact for long, so they come from the user.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from kaito_ray.catalog import karpenter
from kaito_ray.errors import UserError

MIB: Final = 2**20
NATIVE_BF16_COMPUTE_CAPABILITY: Final = 8.0
"""First NVIDIA generation with bfloat16 tensor cores (Ampere)."""


GPU_RESOURCE: Final = "nvidia.com/gpu"
"""What a pod asks for to get whole GPUs."""


@dataclass(frozen=True)
class Machine:
    """One kind of machine. Byte figures of GPUs are per GPU."""

    instance_type: str
    provider: str
    device: Literal["cuda", "cpu"]
    gpu_model: str | None = None
    vendor: str = "nvidia"
    """Maker of the accelerators: the engine image is built for one."""
    gpu_count: int = 0
    gpu_memory_bytes: int = 0
    cpus: float | None = None
    memory_bytes: int | None = None
    compute_capability: float | None = None
    dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32")
    nvme: bool = False
    retired: bool = False
    substitute: str | None = None
    """Instance type to use instead of a retired one."""
    price_per_hour: float | None = None
    """In the currency of the user's own price file; None where there is none."""
    source: str = "unverified"
    gpu_resource: str = GPU_RESOURCE
    """What a pod asks for to get one of its GPUs; of a MIG slice, the slice's own."""

    @property
    def karpenter_labels(self) -> dict[str, str]:
        """The labels by which Karpenter selects and marks nodes of this type."""
        return karpenter.labels(self)

    @property
    def gpu(self) -> str:
        """The device in words: `2 x NVIDIA A100`, or `CPU`."""
        if self.device == "cpu":
            return "CPU"
        slice_ = "" if self.gpu_resource == GPU_RESOURCE else f" ({self.gpu_resource})"
        return f"{self.gpu_count} x {self.gpu_model}{slice_}"


@cache
def _table() -> dict[str, Machine]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C form is ten times as fast
    document = yaml.load(Path(__file__).with_name("machines.yaml").read_bytes(), Loader=loader)  # noqa: S506 -- it is safe
    found = (_machine(row, document["gpus"][row["gpu"]]) for row in document["machines"])
    return {m.instance_type.lower(): m for m in found}


def _machine(row: Mapping[str, Any], gpu: Mapping[str, Any]) -> Machine:
    capability = gpu.get("computeCapability")
    return Machine(
        instance_type=row["instanceType"],
        provider=row["provider"],
        device="cpu" if gpu["model"] is None else "cuda",
        gpu_model=gpu["model"],
        vendor=gpu["vendor"],
        gpu_count=row["count"],
        gpu_memory_bytes=gpu["memoryMiB"] * MIB,
        cpus=row.get("cpus"),
        memory_bytes=row["memoryGiB"] * 2**30 if "memoryGiB" in row else None,
        compute_capability=capability,
        dtypes=dtypes_of(capability),
        nvme=row.get("nvme", False),
        retired=row.get("retired", False),
        substitute=row.get("substitute"),
        source=row["source"],
    )


def dtypes_of(compute_capability: float | None) -> tuple[str, ...]:
    """Return the activation types that a GPU computes natively; a CPU or an unknown GPU is taken to know all."""
    if compute_capability is not None and compute_capability < NATIVE_BF16_COMPUTE_CAPABILITY:
        return ("float16", "float32")
    return ("bfloat16", "float16", "float32")


def machines(provider: str | None = None) -> tuple[Machine, ...]:
    """Return every known instance type, or those of one provider (`azure`, `aws`, `arc`)."""
    return tuple(m for m in _table().values() if provider in (None, m.provider))


def machine(instance_type: str) -> Machine | None:
    """Return that instance type, or None where it is unknown; case does not matter."""
    return _table().get(instance_type.lower())


def current(wanted: Machine) -> Machine:
    """Return the machine itself, or what replaces it where its provider has retired it."""
    substitute = machine(wanted.substitute) if wanted.retired and wanted.substitute else None
    return substitute or wanted


def with_prices(offers: tuple[Machine, ...], prices: Mapping[str, float]) -> tuple[Machine, ...]:
    """Return the machines with hourly prices from a user's price file: instance type to number."""
    by_name = {name.lower(): price for name, price in prices.items()}
    return tuple(replace(m, price_per_hour=by_name.get(m.instance_type.lower())) for m in offers)


def machine_of_node(node: Mapping[str, Any]) -> Machine:
    """Return the machine that a Kubernetes Node is, from its labels and capacity.

    GPU facts are read from the labels of NVIDIA's GPU feature discovery (`nvidia.com/gpu.product`, `.count`,
    `.memory` in MiB, `nvidia.com/cuda.compute.major`); where they are absent, from the instance type's row, and where
    that is absent too, from Karpenter's labels.

    Raises:
        UserError: the node has GPUs whose memory neither its labels nor the catalog tell.
    """
    metadata = node.get("metadata", {})
    labels = metadata.get("labels") or {}
    capacity = (node.get("status") or {}).get("capacity") or {}
    name = labels.get("node.kubernetes.io/instance-type") or metadata.get("name", "node")
    cpus = quantity(capacity["cpu"]) if "cpu" in capacity else None
    memory = int(quantity(capacity["memory"])) if "memory" in capacity else None
    count = int(capacity.get("nvidia.com/gpu") or labels.get("nvidia.com/gpu.count") or 0)
    if amd := int(capacity.get("amd.com/gpu") or 0):
        # Named for what it is, so that it is refused as an AMD GPU and not planned as a CPU.
        return Machine(
            instance_type=name,
            provider="byo",
            device="cuda",
            gpu_model=labels.get("amd.com/gpu.product-name", "AMD GPU"),
            vendor="amd",
            gpu_count=amd,
            cpus=cpus,
            memory_bytes=memory,
            source="node capacity",
        )
    if count == 0:
        return Machine(
            instance_type=name,
            provider="byo",
            device="cpu",
            vendor="none",
            cpus=cpus,
            memory_bytes=memory,
            source="node capacity",
        )
    if "nvidia.com/gpu.memory" in labels:
        capability = _compute_capability(labels)
        return Machine(
            instance_type=name,
            provider="byo",
            device="cuda",
            gpu_model=labels.get("nvidia.com/gpu.product"),
            gpu_count=count,
            gpu_memory_bytes=int(labels["nvidia.com/gpu.memory"]) * MIB,
            compute_capability=capability,
            dtypes=dtypes_of(capability),
            cpus=cpus,
            memory_bytes=memory,
            source="node labels",
        )
    if known := machine(name):
        return replace(known, gpu_count=count, cpus=cpus, memory_bytes=memory)
    if gpu := karpenter.gpu_of(labels):
        model, memory_mib = gpu
        alike = next((m for m in machines() if m.gpu_model == model), None)
        capability = alike.compute_capability if alike else None
        return Machine(
            instance_type=name,
            provider="byo",
            device="cuda",
            gpu_model=model,
            gpu_count=count,
            gpu_memory_bytes=memory_mib * MIB,
            compute_capability=capability,
            dtypes=dtypes_of(capability),
            cpus=cpus,
            memory_bytes=memory,
            source="Karpenter's labels",
        )
    raise UserError(
        f"node {metadata.get('name')!r} has {count} GPUs of unknown memory: install NVIDIA's GPU feature discovery, "
        "or label it with nvidia.com/gpu.product, nvidia.com/gpu.memory (MiB) and nvidia.com/cuda.compute.major/.minor"
    )


def _compute_capability(labels: Mapping[str, str]) -> float | None:
    major = labels.get("nvidia.com/cuda.compute.major") or labels.get("nvidia.com/gpu.compute.major")
    minor = labels.get("nvidia.com/cuda.compute.minor") or labels.get("nvidia.com/gpu.compute.minor") or "0"
    return float(f"{major}.{minor}") if major else None


_QUANTITY: Final = re.compile(r"([0-9.]+(?:[eE][0-9]+)?)(m|k|Ki|[MGTPE]i?)?")
_SUFFIXES: Final[dict[str, float]] = {
    "": 1.0,
    "m": 1e-3,
    **{s: 1000.0**p for p, s in enumerate("kMGTPE", 1)},
    **{f"{s}i": 1024.0**p for p, s in enumerate("KMGTPE", 1)},
}


def quantity(text: str | float) -> float:
    """Return a Kubernetes quantity (`24637672Ki`, `3500m`, `2`) in its base unit.

    Raises:
        ValueError: it is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise ValueError(f"not a Kubernetes quantity: {text!r}")
    return float(match[1]) * _SUFFIXES[match[2] or ""]
