"""`kaito-ray migrate`: hand a Workspace of KAITO's over, with its machines. docs/migrate.md tells the whole way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from kaito_ray.api import names
from kaito_ray.cli import connection
from kaito_ray.cli.options import HomeOption, KubeconfigOption, NamespaceOption
from kaito_ray.errors import Conflict, KaitoRayError, UserError
from kaito_ray.kube.cluster import (
    DEPLOYMENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    WORKSPACES,
    Cluster,
)

if TYPE_CHECKING:
    from kaito_ray.cli.migration import Scene
    from kaito_ray.kube.cluster import Manifest

POLL_S = 2.0


class CannotMigrate(UserError):
    """Something must be put in order first; nothing was changed."""

    reason = "CannotMigrate"


class MigrationStuck(KaitoRayError):
    """The model did not answer in time; the same command goes on where it was."""

    reason = "MigrationStuck"


def migrate(
    name: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Which one.", show_default=False)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, help="Seconds to wait for the model.")] = 3600,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Hand a Workspace over that KAITO serves: its machines are kept, its Service leads to Ray once the model answers.

    KAITO's operator must be gone. What was begun and broken off goes on where it was.
    """
    from kaito_ray.cli.console import say
    from kaito_ray.cli.migration import steps

    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)

    async def run(cluster: Cluster) -> None:
        await require_ready_for_it(cluster, target.namespace, name)
        todo = steps(await look(cluster, target.namespace, name))
        if not todo:
            say(f"Nothing to do: nothing of KAITO's is left of {name}.")
        elif dry_run:
            for number, step in enumerate(todo, 1):
                say(f"{number}. {step.words}")
        else:
            await handed_over(cluster, target.namespace, name, say=say, timeout_s=timeout_s)
            say(f"{name} is served by kaito-ray.")

    connection.ask(target, run)


async def require_ready_for_it(cluster: Cluster, namespace: str, name: str) -> None:
    """Check all that can be known before the first step.

    Raises:
        CannotMigrate: KAITO is still there, or the Workspace is none that would be served.
    """
    from kaito_ray.cli.manifests import admitted
    from kaito_ray.controller.ownership import Ownership

    if problem := await Ownership(cluster).problem():
        raise CannotMigrate(f"{problem}; docs/migrate.md says how")
    manifest = await cluster.get(WORKSPACES, name, namespace)
    if manifest is None:
        raise CannotMigrate(f"there is no Workspace {name!r} in namespace {namespace}")
    if manifest.get("tuning"):
        raise CannotMigrate(f"{name} tunes a model; let its job end, and apply it anew under another name")
    admitted(manifest)


async def handed_over(
    cluster: Cluster,
    namespace: str,
    name: str,
    *,
    say: Callable[[str], None],
    timeout_s: float,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Do every step that is left.

    Raises:
        MigrationStuck: the model did not answer within `timeout_s`.
    """
    from kaito_ray.cli.migration import steps
    from kaito_ray.controller.act import act

    waited = 0.0
    while todo := steps(seen := await look(cluster, namespace, name)):
        step = todo[0]
        if step.action is not None or not waited:
            say(f"{step.words} ...")
        if step.action is not None:
            try:
                await act(cluster, (step.action,), seen.workspace)
            except Conflict:  # somebody wrote it meanwhile: look again
                await sleep(POLL_S)
            continue
        if waited >= timeout_s:
            why = (seen.workspace.get("status") or {}).get("reason") or "does the operator run?"
            raise MigrationStuck(f"{name} does not answer after {timeout_s:.0f} s: {why}; the same command goes on")
        await sleep(POLL_S)
        waited += POLL_S


async def look(cluster: Cluster, namespace: str, name: str) -> Scene:
    """Return the Workspace and what KAITO made for it.

    Raises:
        CannotMigrate: the Workspace went away.
    """
    from kaito_ray.cli.migration import Scene
    from kaito_ray.controller import kaito

    workspace = await cluster.get(WORKSPACES, name, namespace)
    if workspace is None:
        raise CannotMigrate(f"there is no Workspace {name!r} in namespace {namespace}")
    theirs = {kaito.POOL_WORKSPACE: name, kaito.POOL_NAMESPACE: namespace}
    ours = {names.WORKSPACE_LABEL: name, names.WORKSPACE_NAMESPACE_LABEL: namespace}
    claims = _unique([*await cluster.list(NODE_CLAIMS, labels=ours), *await cluster.list(NODE_CLAIMS, labels=theirs)])
    on = [await cluster.get(NODES, node) for claim in claims if (node := (claim.get("status") or {}).get("nodeName"))]
    return Scene(
        workspace=workspace,
        service=await cluster.get(SERVICES, name, namespace),
        headless=await cluster.get(SERVICES, f"{name}-headless", namespace),
        stateful_set=await cluster.get(STATEFUL_SETS, name, namespace),
        deployment=await cluster.get(DEPLOYMENTS, name, namespace),
        revisions=tuple(await cluster.list(REVISIONS, namespace, labels={kaito.REVISION_OF: name})),
        node_pool=await cluster.get(NODE_POOLS, names.node_pool(namespace, name)),
        node_claims=tuple(claims),
        nodes=tuple(node for node in on if node is not None),
    )


def _unique(found: list[Manifest]) -> list[Manifest]:
    return list({one["metadata"]["uid"]: one for one in found}.values())
