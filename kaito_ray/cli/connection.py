"""Which API server a command talks to, and as whom.

In this order: `--kubeconfig`, `KUBECONFIG`, the control plane of this machine when it has been started, and what
kubectl itself would take.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kaito_ray.errors import UserError

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Cluster

T = TypeVar("T")


class NoCluster(UserError):
    """There is no kubeconfig to go by."""

    reason = "NoCluster"


class NotRunning(NoCluster):
    """The cluster that is meant is the control plane of this machine, which does not run."""

    reason = "NotRunning"

    def __init__(self) -> None:
        super().__init__("the control plane of this machine does not run; `kaito-ray up --detach` starts it")


@dataclass(frozen=True)
class Target:
    """A cluster and a namespace in it."""

    kubeconfig: Path
    namespace: str

    def kubectl(self, *words: str) -> list[str]:
        """Return the kubectl command line for this cluster and namespace."""
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *words]


def find(*, kubeconfig: Path | None, home: Path | None, namespace: str | None) -> Target:
    """Return the cluster that the options mean; `kubeconfig` holds `KUBECONFIG` where the option is not given.

    Raises:
        NoCluster: no kubeconfig is named and none lies where one would.
        NotRunning: it is the control plane of this machine that is meant, and it does not run.
    """
    from kaito_ray.local.home import Home, default_home

    here = Home((home or default_home()).expanduser().resolve())
    runs = here.holder() is not None
    if kubeconfig is not None:
        named = _first_existing(kubeconfig)
        if named.resolve() == here.kubeconfig and not runs:
            raise NotRunning
        return _target(named, namespace)
    if runs:
        return _target(here.kubeconfig, namespace)
    if (usual := Path.home() / ".kube" / "config").is_file():
        return _target(usual, namespace)
    raise NoCluster("there is no cluster yet: start one here with `kaito-ray up --detach`, or name one by --kubeconfig")


def ask(target: Target, question: Callable[[Cluster], Awaitable[T]]) -> T:
    """Return what `question` finds out from the cluster; the connection is closed in any case.

    Raises:
        errors.ApiUnavailable: the API server does not answer.
    """

    async def run() -> T:
        cluster = connect(target)
        try:
            return await question(cluster)
        finally:
            await cluster.close()

    return asyncio.run(run())


def connect(target: Target) -> Cluster:
    """Return the cluster; the caller closes it."""
    from kaito_ray.kube.client import KubernetesCluster

    return KubernetesCluster(target.kubeconfig)


def _target(kubeconfig: Path, namespace: str | None) -> Target:
    return Target(kubeconfig, namespace or _namespace_of(kubeconfig))


def _first_existing(kubeconfig: Path) -> Path:
    """Return the file; `KUBECONFIG` may list several, of which kubectl also goes by the first with a context."""
    names = str(kubeconfig).split(os.pathsep)
    for path in (Path(name).expanduser() for name in names):
        if path.is_file():
            return path
    raise NoCluster(f"--kubeconfig: there is no file {kubeconfig}; name one that exists, or unset KUBECONFIG")


def _namespace_of(kubeconfig: Path) -> str:
    """Return the namespace of the current context, or `default`."""
    import yaml

    try:
        config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text()) or {}
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        return str(context.get("namespace") or "default")
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration):
        return "default"
