"""`kaito-ray upgrade`: move Workspaces to another worker image, a few at a time.

A new operator never restarts what serves; this does. KubeRay starts a second Ray cluster beside the serving one and
moves the traffic when the model answers there, so each upgrade needs the Workspace's GPUs twice for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito_ray.api import names
from kaito_ray.cli import connection
from kaito_ray.cli.options import HomeOption, KubeconfigOption, NamespaceOption
from kaito_ray.errors import KaitoRayError, UserError
from kaito_ray.kube.cluster import RAY_SERVICES, WORKSPACES, Cluster

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Manifest

POLL_S = 2.0


class NothingNamed(UserError):
    """Neither a Workspace nor all of them were named."""

    reason = "NothingNamed"


class UpgradeStuck(KaitoRayError):
    """The model did not answer from the new image in time; what served before still does."""

    reason = "UpgradeStuck"


@dataclass(frozen=True)
class Move:
    """One Workspace on its way to an image."""

    name: str
    namespace: str
    image: str
    before: str | None
    """The image that serves."""
    gpus: int
    """So many more are needed for a while."""


def upgrade(
    name: Annotated[str | None, typer.Argument(metavar="[WORKSPACE]", help="Which one.", show_default=False)] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every Workspace of the namespace.")] = False,
    image: Annotated[str | None, typer.Option("--image", help="The image; by default that of this version.")] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="So many at a time.")] = 1,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, help="Seconds to wait for each.")] = 3600,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would do, and the GPUs it needs.")
    ] = False,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Move Workspaces to another worker image, without downtime where there are GPUs for a second copy."""
    from kaito_ray.cli.console import say
    from kaito_ray.controller.settings import DEFAULT_IMAGE

    if bool(name) == everything:
        raise NothingNamed("name one Workspace, or give --all")
    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    to = image or DEFAULT_IMAGE

    async def run(cluster: Cluster) -> None:
        moves = await planned(cluster, target.namespace, name, to)
        for move in moves:
            say(f"{move.name}: {move.before} -> {move.image}; needs {move.gpus} more GPUs while both run")
        if not moves:
            say(f"Nothing to do: every Workspace that serves is on {to}.")
        if dry_run:
            return
        for start in range(0, len(moves), at_once):
            batch = moves[start : start + at_once]
            await asyncio.gather(*(carried_out(cluster, move, timeout_s=timeout_s) for move in batch))
            say(f"{', '.join(move.name for move in batch)}: done")

    connection.ask(target, run)


async def planned(cluster: Cluster, namespace: str, name: str | None, image: str) -> list[Move]:
    """Return what is to be moved: those that serve, from another image."""
    found = await cluster.list(WORKSPACES, namespace)
    if name and not any(one["metadata"]["name"] == name for one in found):
        raise NothingNamed(f"there is no Workspace {name!r} in namespace {namespace}")
    moves = []
    for one in found:
        mine = one["metadata"]["name"]
        service = await cluster.get(RAY_SERVICES, names.ray_service(mine), namespace)
        if service is not None and name in (None, mine) and (before := _image(service)) != image:
            status: Mapping[str, Any] = one.get("status") or {}
            plan: Mapping[str, Any] = status.get("plan") or {}
            # The second cluster starts with as many replicas as serve now, and with one where there is none.
            nodes = max(status.get("targetNodeCount") or 0, plan.get("nodes", 1))
            gpus = nodes * plan.get("gpusPerNode", 0)
            moves.append(Move(mine, namespace, image, before, gpus))
    return moves


async def carried_out(
    cluster: Cluster,
    move: Move,
    *,
    timeout_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Ask for the image, and wait until KubeRay has moved the traffic to it.

    Raises:
        UpgradeStuck: it did not in time.
    """
    name = names.ray_service(move.name)
    before = _active(await cluster.get(RAY_SERVICES, name, move.namespace))
    workspace = await cluster.get(WORKSPACES, move.name, move.namespace)
    if workspace is None:
        return
    marks = {**(workspace["metadata"].get("annotations") or {}), names.WORKER_IMAGE_ANNOTATION: move.image}
    await cluster.replace(WORKSPACES, {**workspace, "metadata": {**workspace["metadata"], "annotations": marks}})
    waited = 0.0
    while (now := _active(await cluster.get(RAY_SERVICES, name, move.namespace))) in (before, None):
        if waited >= timeout_s:
            raise UpgradeStuck(
                f"{move.name} is not on {move.image} after {timeout_s:.0f} s ({now} still serves); {_SEE}"
            )
        await sleep(POLL_S)
        waited += POLL_S


_SEE = "see `kubectl get workspace -o wide`; --image with the image before goes back"


def _image(service: Manifest) -> str | None:
    template = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    image: str | None = template["spec"]["containers"][0].get("image")
    return image


def _active(service: Manifest | None) -> str | None:
    status = (service or {}).get("status") or {}
    name: str | None = (status.get("activeServiceStatus") or {}).get("rayClusterName")
    return name
