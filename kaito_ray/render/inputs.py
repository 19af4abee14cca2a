"""What a serving Workspace is rendered from, besides itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from kaito_ray.api.workspace import InferenceSpec, Workspace
from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.render.inference_config import InferenceConfig

RAY_VERSION: Final = "2.60.0"
"""Ray in the worker image; KubeRay chooses probes and token authentication by it."""

Manifest = dict[str, Any]
Provisioner = Literal["karpenter", "nodeclaim", "byo"]
"""Who makes nodes: Karpenter of a NodePool, or of NodeClaims that the operator makes; with `byo` they are there already."""


@dataclass(frozen=True)
class NodeClassRef:
    """Which NodeClass new nodes are made of."""

    group: str
    kind: str
    name: str


@dataclass(frozen=True)
class Redis:
    """Where Ray keeps the state of its head, so that workers outlive it."""

    address: str
    """`host:port`, or a `redis://` or `rediss://` URL."""
    secret: str | None = None
    """Secret in the Workspace's namespace that holds the password."""
    key: str = "password"
    """Its key there."""


@dataclass(frozen=True)
class ServingInputs:
    """One serving Workspace with its plan: everything that the manifests depend on."""

    workspace: Workspace
    plan: ServingPlan
    image: str
    """Worker image, pinned when the Workspace was first served."""
    config: InferenceConfig = field(default_factory=InferenceConfig)
    """Engine options of the Workspace's ConfigMap."""
    pull_secrets: Mapping[str, str] = field(default_factory=dict)
    """Registry credentials by the name of their file in the pod: docker config JSON, base64."""
    api_keys: Mapping[str, str] = field(default_factory=dict)
    """API keys by name, base64."""
    hub_endpoint: str | None = None
    """Mirror of the model hub; None for the hub itself."""
    provisioner: Provisioner = "karpenter"
    """Who makes nodes."""
    node_class: NodeClassRef | None = None
    """Of new nodes; absent with `byo`."""
    instance_types: tuple[str, ...] = ()
    """Instance types that the plan holds for, in order of preference."""
    copies_now: int = 0
    """Copies of the model that Serve runs now; a second Ray cluster beside the first starts with as many."""
    redis: Redis | None = None
    """For the state of Ray's head, where workers can outlive it."""
    regional: bool = False
    """Azure: GPU sizes are often obtainable only without a zone."""

    @property
    def inference(self) -> InferenceSpec:
        """What is served.

        Raises:
            ValueError: the Workspace does not serve.
        """
        if self.workspace.inference is None:
            raise ValueError(f"Workspace {self.workspace.metadata.name} does not serve")
        return self.workspace.inference
