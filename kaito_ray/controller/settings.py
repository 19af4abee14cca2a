"""What the operator is told when it starts: flags, each with an environment variable."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast
from uuid import uuid4

from kaito_ray import __version__
from kaito_ray.catalog.prices import read_prices
from kaito_ray.errors import UserError
from kaito_ray.estimator.options import CUDA_12, CUDA_13, EngineImage
from kaito_ray.render.inputs import NodeClassRef, Provisioner, Redis
from kaito_ray.weights.facts import HUB

Provider = Literal["local", "azure", "aws"]

NODE_CLASSES: Final[Mapping[Provider, NodeClassRef]] = {
    "local": NodeClassRef("ray.kaito.sh", "LocalMachine", "default"),
    "azure": NodeClassRef("karpenter.azure.com", "AKSNodeClass", "default"),
    "aws": NodeClassRef("karpenter.k8s.aws", "EC2NodeClass", "default"),
}
GPU_PROVISIONER_CLASS: Final = NodeClassRef("kaito.sh", "KaitoNodeClass", "default")
"""Of NodeClaims on Azure: KAITO's gpu-provisioner carries them out."""
ENGINE_IMAGES: Final[Mapping[str, EngineImage]] = {"13": CUDA_13, "12": CUDA_12}
"""By the CUDA that the worker image was built with."""
DEFAULT_IMAGE: Final = f"ghcr.io/kaito-ray/worker:{__version__}"


@dataclass(frozen=True)
class Settings:
    """The operator's settings."""

    kubeconfig: Path | None = None
    """Absent: the pod's service account."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to work in; empty means all."""
    provider: Provider = "azure"
    """Whose machines: this one, or a cloud's instance types."""
    provisioner: Provisioner = "karpenter"
    """Who makes nodes, if anybody."""
    worker_image: str = DEFAULT_IMAGE
    """Image of the Ray pods of Workspaces that are served for the first time."""
    engine_image: EngineImage = CUDA_13
    """What the engine in that image runs on."""
    hub_endpoint: str = HUB
    """The model hub, or a mirror of it, for the operator and for Ray's pods."""
    models_dir: Path | None = None
    """A directory with models by `org/model`, looked in before the hub; only on one machine, where pods see it too."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """What an hour of an instance type costs; the planner picks by it where a Workspace names no type."""
    retired: Literal["substitute", "refuse"] = "substitute"
    """What becomes of a retired instance type."""
    data_allow: tuple[str, ...] = ()
    """Hosts and networks that tuning may fetch data from though they are private."""
    redis: Redis | None = None
    """Where the heads of Workspaces that are scaled on GPUs keep Ray's state."""
    rollout_deadline_s: int | None = None
    """How long a rollout may take before it is called stuck; None: by the size of the weights."""
    workers: int = 4
    """Workspaces reconciled at the same time."""
    identity: str = "kaito-ray"
    """Name of this process in the lease."""
    lease_namespace: str = "default"
    """Where the lease is kept."""
    webhook_host: str = "127.0.0.1"
    """Address that the admission webhook listens on."""
    webhook_port: int = 0
    """Its port; 0 takes a free one."""
    health_port: int = 0
    """Port of `/healthz`, `/readyz` and `/metrics` on all interfaces; 0: none."""
    webhook_service: str | None = None
    """`namespace/name` of the Service in front of it, in a cluster; absent means the API server calls the address."""

    @property
    def mirror(self) -> str | None:
        """The hub's mirror that pods are told of; None for the hub itself."""
        return None if self.hub_endpoint == HUB else self.hub_endpoint

    @property
    def node_class(self) -> NodeClassRef | None:
        """The NodeClass of new nodes."""
        if not self.provisions:
            return None
        by_gpu_provisioner = self.provisioner == "nodeclaim" and self.provider == "azure"
        return GPU_PROVISIONER_CLASS if by_gpu_provisioner else NODE_CLASSES[self.provider]

    @property
    def provisions(self) -> bool:
        """Whether nodes are made for a Workspace."""
        return self.provisioner != "byo"


def names_in(text: str) -> tuple[str, ...]:
    """Return what stands between the commas."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def from_arguments(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; a flag wins over its variable (`--worker-image` over `KAITO_RAY_WORKER_IMAGE`)."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.controller", description="The kaito-ray operator.")

    def add(
        flag: str, default: object, help_: str, choices: Sequence[str] | None = None, variable: str | None = None
    ) -> None:
        variable = variable or "KAITO_RAY_" + flag.upper().replace("-", "_")
        text = environ.get(variable, "" if default is None else str(default))
        parser.add_argument(f"--{flag}", default=text, choices=choices, help=f"{help_} [{variable}]")

    add("kubeconfig", None, "kubeconfig file; without it, the pod's service account")
    add("namespaces", None, "comma-separated namespaces to work in; without it, all")
    add("provider", defaults.provider, "whose machines", ("local", "azure", "aws"))
    add("provisioner", defaults.provisioner, "who makes nodes", ("karpenter", "nodeclaim", "byo"))
    add("worker-image", defaults.worker_image, "image of the Ray pods")
    add("engine-cuda", "13", "CUDA of the worker image: 13 needs compute capability 7.5, 12 needs 7.0", ("13", "12"))
    add("hub-endpoint", HUB, "model hub, or a mirror of it", variable="HF_ENDPOINT")
    add("models-dir", None, "directory with models by org/model, looked in before the hub; only with --provider local")
    add("prices", None, "YAML file of instance types and what an hour costs, to pick by where a Workspace names none")
    add("retired", defaults.retired, "what becomes of a retired instance type", ("substitute", "refuse"))
    add(
        "data-allow", None, "comma-separated hosts or networks that training data may come from though they are private"
    )
    add("redis-address", None, "host:port or URL of a Redis for Ray's state, so that replicas outlive the Ray head")
    add("redis-secret", None, "Secret with its password in each Workspace's namespace: name, or name/key")
    add("rollout-deadline", 0, "seconds after which a rollout is called stuck; 0: by the size of the weights")
    add("workers", defaults.workers, "Workspaces reconciled at the same time")
    add(
        "identity",
        f"{socket.gethostname()}_{uuid4().hex[:8]}",
        "name of this process in the lease, unlike any other's; a pod's own, so that its restart goes on at once",
    )
    add("lease-namespace", defaults.lease_namespace, "namespace of the lease")
    add("webhook-host", defaults.webhook_host, "address of the admission webhook")
    add("webhook-port", defaults.webhook_port, "port of the admission webhook; 0 takes a free one")
    add("health-port", defaults.health_port, "port of /healthz, /readyz and /metrics; 0: none")
    add("webhook-service", None, "namespace/name of the Service in front of the webhook")
    given = parser.parse_args(arguments)
    if given.models_dir and given.provider != "local":
        parser.error("--models-dir: only with --provider local, where pods see it too; in a cluster set HF_ENDPOINT")
    try:
        prices = read_prices(Path(given.prices)) if given.prices else {}
    except UserError as error:
        parser.error(str(error))
    return Settings(
        kubeconfig=Path(given.kubeconfig) if given.kubeconfig else None,
        namespaces=names_in(given.namespaces),
        provider=cast("Provider", given.provider),
        provisioner=cast("Provisioner", given.provisioner),
        worker_image=given.worker_image,
        engine_image=ENGINE_IMAGES[given.engine_cuda],
        hub_endpoint=(given.hub_endpoint or HUB).rstrip("/"),
        models_dir=Path(given.models_dir).resolve() if given.models_dir else None,
        prices=prices,
        retired=given.retired,
        data_allow=names_in(given.data_allow),
        redis=_redis(given.redis_address, given.redis_secret),
        rollout_deadline_s=int(given.rollout_deadline) or None,
        workers=int(given.workers),
        identity=given.identity,
        lease_namespace=given.lease_namespace,
        webhook_host=given.webhook_host,
        webhook_port=int(given.webhook_port),
        health_port=int(given.health_port),
        webhook_service=given.webhook_service or None,
    )


def _redis(address: str, secret: str) -> Redis | None:
    name, _, key = secret.partition("/")
    return Redis(address, name or None, key or Redis.key) if address else None
