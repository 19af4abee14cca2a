"""A Workspace as its author writes it.

Group `kaito.sh`, versions `v1beta1` (stored) and `v1alpha1`, no `spec`: the fields sit at the root, as in KAITO.
Fields that KAITO has keep KAITO's name and meaning; fields of ours are optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field

from kaito_ray.api.base import ApiModel
from kaito_ray.api.status import WorkspaceStatus


class LabelSelectorRequirement(ApiModel):
    """One `matchExpressions` entry."""

    key: str
    """Label key."""
    operator: str
    """Only `In` with exactly one value can become a node label, so only that is accepted."""
    values: tuple[str, ...] = ()
    """Label values."""


class LabelSelector(ApiModel):
    """Which nodes: labels that new nodes get and existing ones must have."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    """Labels and their values."""
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
    """Only `In` with one value."""

    def as_labels(self) -> dict[str, str]:
        """Return the selector as plain labels; unusable expressions are refused at admission, and skipped here."""
        single = {e.key: e.values[0] for e in self.match_expressions if e.operator == "In" and len(e.values) == 1}
        return {**self.match_labels, **single}


class PartitionSpec(ApiModel):
    """A part of a GPU; only on nodes of your own."""

    mode: Literal["mig", "accelerator"]
    """`mig` takes one slice by profile, `accelerator` takes `count` whole GPUs."""
    profile: str | None = None
    """MIG profile, for example `1g.10gb`."""
    count: Annotated[int, Field(ge=1)] | None = None
    """GPUs to take in mode `accelerator`."""


CapacityType = Literal["spot", "on-demand", "reserved"]


class ResourceSpec(ApiModel):
    """Which machines."""

    count: Annotated[int, Field(ge=1)] = 1
    """Nodes, for templates; for presets the planner decides."""
    instance_type: str | None = None
    """Cloud instance type. Without one, the planner picks."""
    instance_types: tuple[str, ...] = ()
    """Ordered fallbacks: if one has no capacity, the next."""
    capacity_types: tuple[CapacityType, ...] = ()
    """Spot, on-demand or both; empty means on-demand."""
    zones: tuple[str, ...] = ()
    """Availability zones; empty means any."""
    label_selector: LabelSelector
    """Labels that the nodes carry."""
    preferred_nodes: tuple[str, ...] = ()
    """Deprecated by KAITO and read by nobody; refused with the remedy when it names nodes."""
    partition: PartitionSpec | None = None
    """A part of a GPU."""


class PresetOptions(ApiModel):
    """Options of a preset."""

    image: str | None = None
    """OCI image with the model's files, in place of the hub; only to serve."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets of type kubernetes.io/dockerconfigjson, to pull that image with."""
    model_access_secret: str | None = None
    """Secret in the same namespace whose key `HF_TOKEN` opens gated models."""


class PresetSpec(ApiModel):
    """Which model."""

    name: str
    """A preset's name, an alias, or any `org/model` of the hub; case does not matter."""
    access_mode: Literal["public", "private"] = "public"
    """Deprecated by KAITO, and the same here: `presetOptions.image` says where weights come from."""
    preset_options: PresetOptions | None = None
    """Options."""
    revision: str | None = None
    """Pinned revision of the weights: a commit, branch or tag of the hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless asked for."""


class DataSource(ApiModel):
    """Where adapters or training data come from."""

    name: str | None = None
    """Adapters are served under this name."""
    urls: tuple[str, ...] = ()
    """Training data by http(s)."""
    volume_source: dict[str, Any] | None = Field(
        default=None,
        validation_alias=AliasChoices("volumeSource", "volume"),
        serialization_alias="volumeSource",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    """A Kubernetes volume. `volume` is accepted as another name."""
    image: str | None = None
    """An OCI image."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets of type kubernetes.io/dockerconfigjson."""
    workspace: str | None = None
    """Adapters only: what the tuning Workspace of this name pushed; waited for, followed, and served on when that is deleted."""


class DataDestination(ApiModel):
    """Where a tuned adapter goes."""

    volume_source: dict[str, Any] | None = Field(
        default=None,
        validation_alias=AliasChoices("volumeSource", "volume"),
        serialization_alias="volumeSource",
        json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
    )
    """A Kubernetes volume. `volume` is accepted as another name."""
    image: str | None = None
    """An OCI image reference to push to."""
    image_push_secret: str | None = None
    """Secret of type kubernetes.io/dockerconfigjson for that push."""


class AdapterSpec(ApiModel):
    """A LoRA adapter served by name beside the base model."""

    source: DataSource | None = None
    """Where it comes from; `source.name` is the name it is served under."""
    strength: str | None = None
    """Scale of the LoRA update, `"0.0"` to `"1.0"`; absent means `"1.0"`."""


class Autoscaling(ApiModel):
    """How many replicas, by load. One replica is the plan once: its machines, with a copy of the model on them."""

    min_replicas: Annotated[int, Field(ge=0)] = 1
    """0 scales to zero; requests wait while the first replica starts."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Upper bound."""
    target_ongoing_requests: Annotated[int, Field(ge=1)] | None = None
    """Requests in flight per copy of the model to aim for; absent lets the planner choose."""
    upscale_delay_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long load must stay high before a replica is added; absent means 30."""
    downscale_delay_seconds: Annotated[int, Field(ge=0)] | None = None
    """How long load must stay low before a replica is removed, the last one too; absent means 600."""


class Limits(ApiModel):
    """What one key, or everybody where there are no keys, may use. Each replica counts for itself."""

    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Requests within any minute, for each key and replica: with n replicas a key has up to n times as many."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Prompt and completion tokens within any minute, for each key and replica; counted when an answer ends."""
    max_queued: Annotated[int, Field(ge=0)] | None = None
    """Requests that may wait in a replica while its engine works on `vllm.max-num-seqs` others; further ones get 429."""


class InferenceSpec(ApiModel):
    """Serve a model."""

    preset: PresetSpec | None = None
    """Which model; exclusive with `template`."""
    template: dict[str, Any] | None = Field(
        default=None, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """A pod template of your own; exclusive with `preset`."""
    config: str | None = None
    """ConfigMap whose key `inference_config.yaml` holds engine options."""
    adapters: Annotated[tuple[AdapterSpec, ...], Field(max_length=500)] = ()
    """LoRA adapters served by name beside the base model."""
    autoscaling: Autoscaling | None = None
    """How many replicas, by load; absent means one."""
    api_keys_secret: str | None = None
    """Secret whose values are accepted as bearer keys, and followed; a key's name labels metrics and limits."""
    limits: Limits | None = None
    """Requests and tokens per key, and how many may wait."""


class TuningSpec(ApiModel):
    """Tune a model: QLoRA or LoRA."""

    preset: PresetSpec | None = None
    """The base model."""
    method: str | None = None
    """`lora` or `qlora`; case does not matter."""
    config: str | None = None
    """ConfigMap whose key `training_config.yaml` holds training options."""
    input: DataSource | None = None
    """Training data: exactly one of urls, image, volumeSource."""
    output: DataDestination | None = None
    """Where the adapter goes: exactly one of image, volumeSource."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Data-parallel workers; absent means one."""
    resume: bool | None = None
    """Continue from the last checkpoint; absent means yes when there is one."""


class ObjectMeta(ApiModel):
    """The metadata that we read; the rest is Kubernetes' business."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """Object name."""
    namespace: str = "default"
    """Namespace."""
    uid: str = ""
    """Unique id, set by the API server."""
    generation: int = 0
    """Counts changes of everything but status."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations."""
    finalizers: tuple[str, ...] = ()
    """Finalizers."""
    creation_timestamp: str | None = None
    """RFC 3339."""
    deletion_timestamp: str | None = None
    """RFC 3339, once deletion was asked for."""
    resource_version: str | None = None
    """Opaque version for optimistic concurrency."""


class Workspace(ApiModel):
    """One model, served or tuned."""

    api_version: str = "kaito.sh/v1beta1"
    """`kaito.sh/v1beta1` or `kaito.sh/v1alpha1`."""
    kind: Literal["Workspace"] = "Workspace"
    """Always `Workspace`."""
    metadata: ObjectMeta
    """Name, namespace, labels, annotations."""
    resource: ResourceSpec
    """Which machines."""
    inference: InferenceSpec | None = None
    """Serve a model; exclusive with `tuning`."""
    tuning: TuningSpec | None = None
    """Tune a model; exclusive with `inference`."""
    status: WorkspaceStatus = Field(default_factory=WorkspaceStatus)
    """What the operator saw."""

    @classmethod
    def from_wire(cls, data: Any) -> Self:
        """Parse the JSON form; a status of null, as some clients write it, is none."""
        if isinstance(data, Mapping) and data.get("status", ...) is None:
            data = {key: value for key, value in data.items() if key != "status"}
        return super().from_wire(data)

    @property
    def preset(self) -> PresetSpec | None:
        """The model, whichever of inference and tuning names it."""
        work = self.inference or self.tuning
        return work.preset if work else None

    def with_status(self, status: WorkspaceStatus) -> Self:
        """Return the same Workspace with another status."""
        return self.model_copy(update={"status": status})
