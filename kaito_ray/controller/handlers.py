"""kopf's part: watches that only enqueue, and the admission handler.

What kopf could do beyond that stays off, because it writes: no finalizers, no progress annotations, no Events, no
peering. Its retries stay off too, for they end in a permanent error that nothing wakes; ours never end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kopf

from kaito_ray.api import names
from kaito_ray.api.crd import SERVED_VERSIONS
from kaito_ray.controller.queue import Key, WorkQueue
from kaito_ray.controller.references import Changes, References, owner_key
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.webhook import Webhook, judge
from kaito_ray.kube.client import credentials
from kaito_ray.kube.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    RAY_JOBS,
    RAY_SERVICES,
    SECRETS,
    SERVICES,
    WORKSPACES,
    Resource,
)


@dataclass
class Watches:
    """What the handlers share."""

    queue: WorkQueue
    references: References = field(default_factory=References)
    changes: Changes = field(default_factory=Changes)


def registry(watches: Watches, settings: Settings) -> kopf.OperatorRegistry:
    """Return kopf's registry with every handler of the operator."""
    found = kopf.OperatorRegistry()
    on_workspace(watches, found)
    built_in = (SERVICES, DEPLOYMENTS, SECRETS, PODS, NETWORK_POLICIES, DISRUPTION_BUDGETS)
    for resource in (*custom_kinds(settings), *built_in):
        on_child(watches, resource, found)
    for resource in (CONFIG_MAPS, SECRETS):
        on_named(watches, resource, found)
    if settings.provisioner == "byo" or settings.provider == "local":
        on_node(watches, found)
    on_admission(settings, found)
    on_login(settings.kubeconfig, found)
    return found


def custom_kinds(settings: Settings) -> tuple[Resource, ...]:
    """Return the kinds of KubeRay and Karpenter that are watched here; node_claims.py follows the claims."""
    return (RAY_SERVICES, RAY_JOBS, *((NODE_POOLS,) if settings.provisioner == "karpenter" else ()))


def needed_kinds(settings: Settings) -> tuple[Resource, ...]:
    """Return the kinds of KubeRay and Karpenter without which nothing can be carried out."""
    return (*custom_kinds(settings), *((NODE_CLAIMS,) if settings.provisions else ()))


def kopf_settings(webhook: Webhook) -> kopf.OperatorSettings:
    """Return kopf's settings: nothing is written, and the webhook is ours to publish."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.peering.standalone = True
    found.scanning.disabled = True  # see late_kinds.py
    found.admission.server = webhook
    # Lost connections are found out and mended; the default gives up after eight tries.
    found.networking.error_backoffs = [0.2, 0.5, 1, 2, 3, 5, 5, 5, 5, 5, 5, 5]
    found.watching.chunk_size = 500
    return found


def on_workspace(watches: Watches, found: kopf.OperatorRegistry) -> None:
    """Enqueue a Workspace when anything but its status changes, and those that serve what it tuned when it does."""

    @kopf.on.event(*_selector(WORKSPACES), registry=found, id="workspace")
    async def workspace(body: kopf.Body, type: str | None, **_: Any) -> None:
        key, gone = Key(body["metadata"]["namespace"], body["metadata"]["name"]), type == "DELETED"
        watches.references.learn(key, None if gone else body)
        if watches.changes.matters(body, gone=gone, ignore="status"):
            watches.queue.add(key)
        for serving in watches.references.naming(WORKSPACES.kind, key.namespace, key.name):
            watches.queue.add(serving)


def on_child(watches: Watches, resource: Resource, found: kopf.OperatorRegistry) -> None:
    """Enqueue the Workspace of an object that the operator wrote, or that was made of one."""

    @kopf.on.event(*_selector(resource), registry=found, id=f"child-{resource.plural}", labels=_OURS)
    async def child(body: kopf.Body, type: str | None, **_: Any) -> None:
        key = owner_key(body)
        # Kubernetes counts pods in a budget's status, and nothing is read there.
        ignore = "status" if resource == DISRUPTION_BUDGETS else None
        if key and watches.changes.matters(body, gone=type == "DELETED", ignore=ignore):
            watches.queue.add(key)


def on_named(watches: Watches, resource: Resource, found: kopf.OperatorRegistry) -> None:
    """Enqueue the Workspaces that name a ConfigMap or a Secret."""

    @kopf.on.event(*_selector(resource), registry=found, id=f"named-{resource.plural}")
    async def named(body: kopf.Body, type: str | None, **_: Any) -> None:
        keys = watches.references.naming(resource.kind, body["metadata"]["namespace"], body["metadata"]["name"])
        if keys and watches.changes.matters(body, gone=type == "DELETED"):
            for key in keys:
                watches.queue.add(key)


def on_node(watches: Watches, found: kopf.OperatorRegistry) -> None:
    """Enqueue everybody when a node comes, goes or changes: machines on offer are the nodes."""

    @kopf.on.event(*_selector(NODES), registry=found, id="node")
    async def node(body: kopf.Body, type: str | None, **_: Any) -> None:
        if watches.changes.matters(body, gone=type == "DELETED"):
            for key in watches.references.everybody():
                watches.queue.add(key)


def on_admission(settings: Settings, found: kopf.OperatorRegistry) -> None:
    """Judge Workspaces before they are stored, in whatever version the API server sends them."""

    async def workspace(body: kopf.Body, warnings: list[str], **more: Any) -> None:
        old = more.get("old")
        warnings.extend(judge(dict(body), dict(old) if old else None, settings))

    for version in SERVED_VERSIONS:
        kopf.on.validate(
            WORKSPACES.group,
            version,
            WORKSPACES.plural,
            registry=found,
            id="workspace",
            operations=["CREATE", "UPDATE"],
        )(workspace)


def on_login(kubeconfig: Path | None, found: kopf.OperatorRegistry) -> None:
    """Give kopf the credentials that our own client uses."""

    @kopf.on.login(registry=found, id="login")
    async def login(**_: Any) -> kopf.ConnectionInfo:
        read = await credentials(kubeconfig)
        token = (read.api_key or {}).get("BearerToken", "")
        scheme, _, value = token.rpartition(" ")
        return kopf.ConnectionInfo(
            server=read.host,
            ca_path=read.ssl_ca_cert,
            insecure=not read.verify_ssl,
            scheme=scheme or "Bearer",
            token=value or None,
            certificate_path=read.cert_file,
            private_key_path=read.key_file,
        )


def on_stop(task: asyncio.Future[None], found: kopf.OperatorRegistry) -> None:
    """End our own task when kopf is told to stop: it waits seconds for every task that it did not start itself."""

    @kopf.on.cleanup(registry=found, id="stop")
    async def stop(**_: Any) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


_OURS = {names.WORKSPACE_LABEL: kopf.PRESENT, names.WORKSPACE_NAMESPACE_LABEL: kopf.PRESENT}


def _selector(resource: Resource) -> tuple[str, str, str]:
    return resource.group, resource.version, resource.plural
