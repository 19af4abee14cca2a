"""What a plan says."""

from __future__ import annotations

from dataclasses import dataclass

from kaito_ray.api.status import MemoryParts, PlanStatus
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset


@dataclass(frozen=True)
class ServingPlan:
    """How a model is served. Byte figures are per device."""

    preset: ModelPreset
    machine: Machine
    nodes: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    dtype: str
    kv_cache_dtype: str
    """As the engine is told: `auto` follows `dtype`."""
    context_length_tokens: int
    concurrent_sequences: int
    """Sequences of the full context that all data-parallel copies together cache at once."""
    memory: MemoryParts
    memory_utilization: float
    """Share of a GPU's memory that the engine is given; 1 on a CPU, where the cache is given in bytes."""
    max_batched_tokens: int | None
    """Most tokens of one engine step, where the plan counts on it; None leaves the engine its default."""
    why: tuple[str, ...]
    """One sentence for each choice."""
    requested_instance_type: str | None = None
    """What was asked for, where something else is used."""

    @property
    def gpus(self) -> int:
        """GPUs in use."""
        return self.nodes * self.machine.gpu_count

    @property
    def price_per_hour(self) -> float | None:
        """What the machines cost, where a price file was given."""
        price = self.machine.price_per_hour
        return None if price is None else price * self.nodes

    def to_status(self) -> PlanStatus:
        """Return the plan as `status.plan`."""
        return PlanStatus(
            instance_type=self.machine.instance_type,
            requested_instance_type=self.requested_instance_type,
            device=self.machine.device,
            nodes=self.nodes,
            gpus_per_node=self.machine.gpu_count,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            data_parallel=self.data_parallel,
            dtype=self.dtype,
            context_length_tokens=self.context_length_tokens,
            concurrent_sequences=self.concurrent_sequences,
            memory=self.memory,
            why=self.why,
        )
