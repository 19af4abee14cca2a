"""Read the cluster into one value: all that a decision about one Workspace depends on."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from kaito_ray.api import conditions as c
from kaito_ray.api import names
from kaito_ray.api.status import AdapterStatus, ReplicaStart, ReplicaStatus
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller.deployment_state import DeploymentState
from kaito_ray.controller.jobs import HttpJobs, Jobs, job_log
from kaito_ray.controller.models import Models
from kaito_ray.controller.node_claims import NodeClaims
from kaito_ray.controller.queue import Key
from kaito_ray.controller.ray_token import ray_token
from kaito_ray.controller.replicas import Replicas
from kaito_ray.controller.scaling import asleep, autoscaling
from kaito_ray.controller.served_model import Found, at_its_commit, observed_model
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.tuned import Tuned, resolved, told, tuned_names
from kaito_ray.controller.warnings import of_pods
from kaito_ray.kube.cluster import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    NODE_POOLS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RAY_JOBS,
    RAY_SERVICES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    WORKSPACES,
    Cluster,
    Manifest,
    Resource,
)
from kaito_ray.kube.conditions import holds
from kaito_ray.render.adapters import pull_secrets, pulls_images
from kaito_ray.render.meta import pod_labels

POD_ACCOUNT: Final = "default"
"""ServiceAccount of a pod whose template names none, as ours."""

Child = tuple[Resource, str]
"""Kind and name of an object that the operator writes for a Workspace."""

LAST_LINES: Final = 100
"""Of a tuning job's log: while it trains, every one is progress."""


@dataclass(frozen=True)
class Observed:
    """One Workspace and everything around it, at one moment."""

    workspace: Workspace
    manifest: Manifest
    """The Workspace as it was read."""
    children: Mapping[Child, Manifest] = field(default_factory=dict)
    """Those children that exist."""
    model: Found | None = None
    """The model that the Workspace names where the catalog lacks it, or why it cannot be had."""
    config: Manifest | None = None
    """The ConfigMap of `inference.config` or `tuning.config`, if it is named and exists."""
    pull_secrets: Mapping[str, Manifest] = field(default_factory=dict)
    """Those Secrets of registry credentials that the Workspace names, to pull or to push, and that exist."""
    account_secrets: Mapping[str, Manifest] = field(default_factory=dict)
    """Those Secrets that the ServiceAccount of the Workspace's pods pulls images with; read where weights or adapters are images."""
    api_keys: Manifest | None = None
    """The Secret of `inference.apiKeysSecret`, if it is named and exists."""
    adapters: tuple[AdapterStatus, ...] | None = None
    """What the replica says of its adapters; None where it was not asked or did not answer."""
    replicas: ReplicaStatus | None = None
    """How many copies of the model there are, where they are scaled: as Ray says now, or said last."""
    replica_start: ReplicaStart | None = None
    """What the replica says of its start; None where it was not asked or did not answer."""
    tuned: Tuned = field(default_factory=dict)
    """Tuning Workspaces that adapters come from, those of them that exist; in `workspace` they are resolved."""
    job_log: tuple[str, ...] | None = None
    """What the tuning job has printed last; None where it was not asked or Ray did not answer."""
    node_claims: tuple[Manifest, ...] = ()
    """Claims of the Workspace's NodePool, or those that the operator made; and those of KAITO's that were taken over."""
    nodes: tuple[Manifest, ...] = ()
    """Nodes that may serve: those of the claims; where nodes are not made for a Workspace, all that it selects."""
    pods: tuple[Manifest, ...] = ()
    """Its pods; read only while the Workspace is not ready, or is being deleted."""
    warnings: tuple[Manifest, ...] = ()
    """Warning Events about those pods that wait, and about NodeClaims, whose own words go with them."""

    @property
    def ray_service(self) -> Manifest | None:
        """The RayService."""
        return self.children.get((RAY_SERVICES, names.ray_service(self.workspace.metadata.name)))

    @property
    def ray_cluster(self) -> str | None:
        """The Ray cluster that serves, by KubeRay's word; None before the first one does."""
        status = (self.ray_service or {}).get("status") or {}
        name: str | None = (status.get("activeServiceStatus") or {}).get("rayClusterName")
        return name or None

    @property
    def ray_job(self) -> Manifest | None:
        """The RayJob."""
        return self.children.get((RAY_JOBS, names.ray_job(self.workspace.metadata.name)))

    @property
    def deployment(self) -> Manifest | None:
        """The Deployment of a pod of the person's own."""
        return self.children.get((DEPLOYMENTS, self.workspace.metadata.name))

    @property
    def data_check(self) -> Manifest | None:
        """The RayJob that looks at training data before there is a machine for it."""
        return self.children.get((RAY_JOBS, names.data_check(self.workspace.metadata.name)))

    @property
    def service(self) -> Manifest | None:
        """The Service that people call."""
        return self.children.get((SERVICES, self.workspace.metadata.name))

    @property
    def node_pool(self) -> Manifest | None:
        """The NodePool."""
        meta = self.workspace.metadata
        return self.children.get((NODE_POOLS, names.node_pool(meta.namespace, meta.name)))

    @property
    def deleting(self) -> bool:
        """Whether deletion was asked for."""
        return self.workspace.metadata.deletion_timestamp is not None


def child_names(namespace: str, workspace: str, *, template: bool = False) -> tuple[Child, ...]:
    """Return every object that a Workspace may have, in the order in which they are made."""
    if template:
        return (
            (NODE_POOLS, names.node_pool(namespace, workspace)),
            (SERVICES, workspace),
            (DEPLOYMENTS, workspace),
        )
    return (
        (NODE_POOLS, names.node_pool(namespace, workspace)),
        (SECRETS, names.keys_secret(workspace)),
        (SECRETS, names.registry_secret(workspace)),
        (SERVICES, workspace),
        (NETWORK_POLICIES, workspace),
        (DISRUPTION_BUDGETS, workspace),
        (PERSISTENT_VOLUME_CLAIMS, names.tuning_claim(workspace)),
        (RAY_SERVICES, names.ray_service(workspace)),
        (RAY_JOBS, names.data_check(workspace)),
        (RAY_JOBS, names.ray_job(workspace)),
    )


async def observe(
    cluster: Cluster,
    replicas: Replicas,
    manifest: Manifest,
    workspace: Workspace,
    settings: Settings,
    *,
    jobs: Jobs | None = None,
    models: Models | None = None,
    claims: NodeClaims | None = None,
) -> Observed:
    """Return what the cluster holds for that Workspace, and what its replica or job says.

    Raises:
        errors.ApiUnavailable: part of it could not be read; nothing may be decided on half a view.
    """
    meta = workspace.metadata
    tuned = await _tuned(cluster, workspace)
    children: dict[Child, Manifest] = {}
    template = bool((manifest.get("inference") or {}).get("template"))
    for resource, name in child_names(meta.namespace, meta.name, template=template):
        if resource == NODE_POOLS and settings.provisioner != "karpenter":
            continue  # there are no rights on them then
        found = await cluster.get(resource, name, meta.namespace if resource.namespaced else None)
        if found is not None:
            children[resource, name] = found
    service = children.get((RAY_SERVICES, names.ray_service(meta.name)))
    registry = children.get((SECRETS, names.registry_secret(meta.name)))
    workspace = resolved(workspace, tuned, told(service, registry))
    leaving = meta.deletion_timestamp is not None
    model = None if leaving else await observed_model(cluster, models, workspace, children.values())
    workspace = at_its_commit(workspace, model)
    # A claim that was made a moment ago may not have been heard of yet, and must not be left behind.
    claims = NodeClaims(cluster) if claims is None or leaving else claims
    key = Key(meta.namespace, meta.name)
    made = await claims.of(key, pod_labels(workspace)) if settings.provisions else []
    spec = workspace.inference
    work = workspace.inference or workspace.tuning
    config = work.config if work else None
    keys = spec.api_keys_secret if spec else None
    job = children.get((RAY_JOBS, names.ray_job(meta.name)))
    counts = None if leaving else await _counted(cluster, replicas, workspace, service)
    ask = spec is not None and bool(spec.adapters) and not leaving and not asleep(counts)
    pods: list[Manifest] = []
    warnings: list[Manifest] = []
    if leaving or not _all_well(workspace, children) or _spare(made, workspace, settings):
        pods = await cluster.list(PODS, meta.namespace, {names.WORKSPACE_LABEL: meta.name})
        warnings = await of_pods(cluster, pods)
        if settings.provisions and settings.provider != "local" and not _enough(made, workspace):
            warnings += await claims.warnings()
    return Observed(
        workspace=workspace,
        manifest=manifest,
        children=children,
        model=model,
        config=await cluster.get(CONFIG_MAPS, config, meta.namespace) if config else None,
        pull_secrets=await _pull_secrets(cluster, workspace),
        account_secrets=await _account_secrets(cluster, workspace),
        api_keys=await cluster.get(SECRETS, keys, meta.namespace) if keys else None,
        adapters=await _adapters(replicas, workspace, children) if ask else None,
        replicas=counts,
        tuned=tuned,
        job_log=await job_log(cluster, jobs or HttpJobs(), job, last=LAST_LINES) if job and not leaving else None,
        node_claims=tuple(made),
        nodes=tuple(await _nodes(cluster, workspace, made, settings)),
        pods=tuple(pods),
        warnings=tuple(warnings),
    )


def _all_well(workspace: Workspace, children: Mapping[Child, Manifest]) -> bool:
    """Return whether nothing is to be explained: it was ready, and KubeRay says that it is, without an upgrade."""
    deployment = children.get((DEPLOYMENTS, workspace.metadata.name))
    service = children.get((RAY_SERVICES, names.ray_service(workspace.metadata.name)))
    before = workspace.status.condition(c.WORKSPACE_READY)
    ready = before is not None and before.status == "True"
    if deployment is not None:
        return ready and DeploymentState.of(deployment).settled
    return ready and holds(service, "Ready") and not holds(service, "UpgradeInProgress")


def _enough(claims: Iterable[Manifest], workspace: Workspace) -> bool:
    """Return whether every machine is launched that the last look found to be needed."""
    return sum(holds(claim, "Launched") for claim in claims) >= max(workspace.status.target_node_count or 0, 1)


def _spare(claims: Sequence[Manifest], workspace: Workspace, settings: Settings) -> bool:
    """Return whether machines are to be given back: then it must be known which of them hold pods."""
    return settings.provisioner == "nodeclaim" and len(claims) > (workspace.status.target_node_count or 0)


async def _counted(
    cluster: Cluster, replicas: Replicas, workspace: Workspace, ray_service: Manifest | None
) -> ReplicaStatus | None:
    """Return how many replicas serve, as Ray says, or as it said last; None where they are not scaled."""
    if autoscaling(workspace) is None:
        return None
    before = workspace.status.replicas
    active: dict[str, Any] = ((ray_service or {}).get("status") or {}).get("activeServiceStatus") or {}
    ray = active.get("rayClusterStatus") or {}
    host, port = (ray.get("head") or {}).get("podIP"), (ray.get("endpoints") or {}).get("dashboard")
    if not (host and port):
        return before
    token = await ray_token(cluster, active["rayClusterName"], workspace.metadata.namespace)
    return (await replicas.counted(f"{host}:{port}", token) if token else None) or before


async def _adapters(
    replicas: Replicas, workspace: Workspace, children: Mapping[Child, Manifest]
) -> tuple[AdapterStatus, ...] | None:
    return await replicas.adapters(workspace.status.endpoint, accepted_key(workspace, children))


def accepted_key(workspace: Workspace, children: Mapping[Child, Manifest]) -> bytes | None:
    """Return one of the keys that the replica was given last; None where it asks for none."""
    mounted = children.get((SECRETS, names.keys_secret(workspace.metadata.name)))
    keys = sorted(((mounted or {}).get("data") or {}).items())
    return base64.b64decode(keys[0][1]) if keys else None


async def _tuned(cluster: Cluster, workspace: Workspace) -> Tuned:
    found: dict[str, Workspace] = {}
    for name in sorted(tuned_names(workspace.inference)):
        manifest = await cluster.get(WORKSPACES, name, workspace.metadata.namespace)
        if manifest is not None:
            with suppress(ValidationError):  # stored under rules that are not ours: as good as absent
                found[name] = Workspace.from_wire(manifest)
    return found


async def _pull_secrets(cluster: Cluster, workspace: Workspace) -> dict[str, Manifest]:
    named: Iterable[str] = pull_secrets(workspace.inference) if workspace.inference else ()
    if (spec := workspace.tuning) is not None:
        push = spec.output.image_push_secret if spec.output else None
        named = (*(spec.input.image_pull_secrets if spec.input else ()), *((push,) if push else ()))
    return await _secrets(cluster, named, workspace.metadata.namespace)


async def _account_secrets(cluster: Cluster, workspace: Workspace) -> dict[str, Manifest]:
    if workspace.inference is None or not pulls_images(workspace.inference):
        return {}
    account = await cluster.get(SERVICE_ACCOUNTS, POD_ACCOUNT, workspace.metadata.namespace)
    named = [entry["name"] for entry in (account or {}).get("imagePullSecrets") or () if entry.get("name")]
    return await _secrets(cluster, named, workspace.metadata.namespace)


async def _secrets(cluster: Cluster, named: Iterable[str], namespace: str) -> dict[str, Manifest]:
    found = {name: await cluster.get(SECRETS, name, namespace) for name in named}
    return {name: secret for name, secret in found.items() if secret is not None}


async def _nodes(cluster: Cluster, workspace: Workspace, claims: list[Manifest], settings: Settings) -> list[Manifest]:
    """Return the nodes that count; in a cloud only those of the claims are read, for a cluster may have thousands."""
    if settings.provisioner == "byo":
        return await cluster.list(NODES, labels=workspace.resource.label_selector.as_labels())
    if settings.provider == "local":
        return await cluster.list(NODES)
    found = [await cluster.get(NODES, name) for claim in claims if (name := claim.get("status", {}).get("nodeName"))]
    return [node for node in found if node is not None]
