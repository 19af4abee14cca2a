"""What the operator writes about a Workspace. KAITO's fields first, ours after."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kaito_ray.api.base import ApiModel

State = Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"]
"""KAITO's `status.state`: the first three for inference, the last three for tuning."""


PhaseName = Literal["Planned", "MachineReady", "RayReady", "ServeReady", "WeightsReady", "EngineReady", "Answering"]
"""Phases of a first start, in their order."""


class Condition(ApiModel):
    """One Kubernetes condition."""

    type: str
    """See `conditions.py`."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """CamelCase, stable, for programs."""
    message: str = ""
    """For people: what, why, what to do."""
    last_transition_time: str = Field(default="", json_schema_extra={"format": "date-time"})
    """When `status` last changed, RFC 3339."""
    observed_generation: int | None = None
    """The `metadata.generation` this was computed from."""


class MemoryParts(ApiModel):
    """Bytes of one GPU's memory (or of one CPU replica's), by use."""

    total_bytes: int
    """What the device has."""
    weights_bytes: int
    """Weights on this device."""
    kv_cache_bytes: int
    """Left for the KV cache."""
    overhead_bytes: int
    """Activations, graphs, runtime."""


class PlanStatus(ApiModel):
    """The plan in force, with its reasons."""

    instance_type: str
    """What is used."""
    requested_instance_type: str | None = None
    """What the manifest asked for, where something else is used instead."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Kind of device."""
    nodes: int
    """Machines."""
    gpus_per_node: int = 0
    """GPUs of one machine; 0 on CPU."""
    tensor_parallel: int = 1
    """TP degree."""
    pipeline_parallel: int = 1
    """PP degree."""
    data_parallel: int = 1
    """DP degree."""
    dtype: str
    """Weights' and activations' type."""
    context_length_tokens: int
    """Longest prompt plus completion."""
    concurrent_sequences: int
    """Sequences of full context length that the KV cache holds at once."""
    memory: MemoryParts
    """Per device."""
    why: tuple[str, ...] = ()
    """One sentence for each choice."""


class AdapterStatus(ApiModel):
    """One adapter."""

    name: str
    """The name it is served under."""
    state: Literal["Waiting", "Pulling", "Ready", "Failed", "Removing"]
    """Where it is."""
    digest: str | None = None
    """Digest of what is served."""
    message: str = ""
    """Why it is not Ready."""


class ReplicaStatus(ApiModel):
    """Copies of the model, where `inference.autoscaling` says how many there may be."""

    desired: int
    """Copies that should run now, by load."""
    ready: int
    """Copies that answer."""


class TuningStatus(ApiModel):
    """Progress of a tuning run."""

    step: int = 0
    """Optimizer steps done."""
    steps: int = 0
    """Optimizer steps in all."""
    epoch: float = 0.0
    """Epochs done."""
    loss: float | None = None
    """Training loss of the last report."""
    eval_loss: float | None = None
    """Loss on the held-out split."""
    tokens_per_second: float | None = None
    """Throughput."""
    eta_seconds: int | None = None
    """Estimated time left."""
    checkpoint: str | None = None
    """Last checkpoint."""
    output: str | None = None
    """The adapter: its image by digest, or its directory."""


class StartPhase(ApiModel):
    """One phase of a Workspace's first start, which has ended."""

    name: PhaseName
    """What was reached: each waits for the one before it."""
    at: str = Field(json_schema_extra={"format": "date-time"})
    """When, RFC 3339."""
    seconds: int
    """Since the phase before; of the first one, since the Workspace was created."""


class ReplicaStart(ApiModel):
    """What a replica says of its own start, at `/startup`; RFC 3339."""

    weights: str
    """When it had the weights on its disk, whole."""
    engine: str
    """When its engine could answer."""


class WorkspaceStatus(ApiModel):
    """What the operator saw."""

    model_config = ConfigDict(extra="ignore")

    worker_nodes: tuple[str, ...] = ()
    """Nodes in use."""
    target_node_count: int | None = None
    """Nodes that the plan needs."""
    state: State | None = None
    """One word, as KAITO has it."""
    conditions: tuple[Condition, ...] = ()
    """See `conditions.py`."""
    performance: dict[str, Any] | None = Field(
        default=None, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """KAITO's benchmark figures."""
    reason: str | None = None
    """Why it is not ready, in at most 100 characters."""
    endpoint: str | None = None
    """Base URL; add `/chat` or `/v1`."""
    plan: PlanStatus | None = None
    """The plan in force."""
    replicas: ReplicaStatus | None = None
    """Copies of the model, where they are scaled."""
    adapters: tuple[AdapterStatus, ...] = ()
    """Each declared adapter."""
    tuning: TuningStatus | None = None
    """Progress of a tuning run."""
    startup: tuple[StartPhase, ...] = ()
    """How long each phase took from the creation of the Workspace to its first answer; kept as it was, later."""
    observed_generation: int | None = None
    """The `metadata.generation` this status was computed from."""

    def condition(self, type_: str) -> Condition | None:
        """Return the condition of that type, if it was ever set."""
        return next((c for c in self.conditions if c.type == type_), None)
