"""What KubeRay v1.7 decides about a RayService, and the status that it writes. Pure.

One cluster is active, and during an upgrade another is pending: it gets the new configuration, and is promoted once
every application in it runs. A change of `serveConfigV2` alone goes to the active cluster, in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import holds
from kaito_ray.local.objects import condition
from kaito_ray.local.ports import LOOPBACK
from kaito_ray.local.raycluster import HASH, spec_hash

FINALIZER: Final = "ray.io/rayservice-finalizer"
RECONCILE_FAILED: Final = "ReconcileFailed"
"""Reason of `Ready`, and ours alone: KubeRay says such a thing in its log."""
_DELETION_DELAY_S: Final = 60.0


class BadServeConfig(ValueError):
    """`spec.serveConfigV2` is not a YAML mapping."""


@dataclass(frozen=True)
class Choice:
    """Which clusters a service should have."""

    active: str | None
    """The cluster that serves."""
    pending: str | None
    """The cluster that is about to."""
    make_pending: bool = False
    """A new pending cluster is needed; it has no name yet."""


def choose(service: Manifest, clusters: Mapping[str, Manifest]) -> Choice:
    """Return which clusters the service should have, given those that it owns, by name."""
    status = service.get("status", {})
    active = _name(status, "activeServiceStatus")
    pending = _name(status, "pendingServiceStatus")
    if active not in clusters:
        active = None
    wanted = spec_hash(service["spec"]["rayClusterConfig"])
    if pending:
        # Its name was recorded before it was made, so one that does not exist yet is still the one to make.
        made = clusters.get(pending)
        return (
            Choice(active, pending)
            if made is None or _hash(made) == wanted
            else Choice(active, None, make_pending=True)
        )
    if active is None:
        return Choice(None, None, make_pending=True)
    upgrade = service["spec"].get("upgradeStrategy", {}).get("type") != "None"
    return Choice(active, None, make_pending=upgrade and _hash(clusters[active]) != wanted)


def deletion_delay_s(service: Manifest) -> float:
    """Return how long a cluster that no longer serves is kept."""
    return float(service["spec"].get("rayClusterDeletionDelaySeconds", _DELETION_DELAY_S))


def serve_config(service: Manifest, *, port: int) -> dict[str, Any]:
    """Return the Serve configuration to PUT: `serveConfigV2`, with the address that this machine gave the cluster.

    Raises:
        BadServeConfig: it is not a YAML mapping.
    """
    try:
        config = yaml.safe_load(service["spec"].get("serveConfigV2") or "")
    except yaml.YAMLError as error:
        raise BadServeConfig(f"spec.serveConfigV2 is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise BadServeConfig("spec.serveConfigV2 must be a YAML mapping with `applications`")
    address = {"host": LOOPBACK, "port": port}
    return {**config, "http_options": {**config.get("http_options", {}), **address}, "proxy_location": "HeadOnly"}


def application_statuses(details: Mapping[str, Any]) -> dict[str, Manifest]:
    """Return Serve's applications in the form of KubeRay's status; an empty name reads `default`."""
    return {
        name or "default": {
            "status": application.get("status", ""),
            "message": application.get("message", ""),
            "serveDeploymentStatuses": {
                deployment: {"status": found.get("status", ""), "message": found.get("message", "")}
                for deployment, found in application.get("deployments", {}).items()
            },
        }
        for name, application in details.get("applications", {}).items()
    }


def all_running(applications: Mapping[str, Manifest]) -> bool:
    """Return whether there is at least one application and every one runs."""
    return bool(applications) and all(a["status"] == "RUNNING" for a in applications.values())


def service_status(
    service: Manifest,
    *,
    active: Manifest | None,
    pending: Manifest | str | None,
    applications: Mapping[str, Manifest],
    endpoints: int,
) -> Manifest:
    """Return the status.

    `active` and `pending` are RayClusters, or the name of a pending one that is not made yet; `applications` are those
    of the pending cluster if there is one, else of the active one. During an upgrade the active cluster's stay as they
    were: KubeRay polls the pending one alone, and forgets them; here people can go on reading them.
    """
    before = service.get("status", {})
    conditions = before.get("conditions", [])
    before_active = before.get("activeServiceStatus", {})
    status: Manifest = {
        "activeServiceStatus": {},
        "pendingServiceStatus": {},
        "numServeEndpoints": endpoints,
        "observedGeneration": service["metadata"].get("generation", 1),
        "serviceStatus": "Running" if endpoints else "",
        "conditions": [_ready(service, conditions, endpoints), _upgrading(conditions, active, pending)],
    }
    if active:
        same = before_active.get("rayClusterName") == active["metadata"]["name"]
        kept = before_active.get("applicationStatuses", {}) if pending and same else applications
        status["activeServiceStatus"] = _of_cluster(active, kept)
    if pending:
        status["pendingServiceStatus"] = (
            {"rayClusterName": pending} if isinstance(pending, str) else _of_cluster(pending, applications)
        )
    return status


def suspended_status(service: Manifest, *, done: bool) -> Manifest:
    """Return the status of a service that is suspended, or about to be."""
    conditions = service.get("status", {}).get("conditions", [])
    reason = "SuspendComplete" if done else "SuspendInProgress"
    return {
        "activeServiceStatus": {},
        "pendingServiceStatus": {},
        "numServeEndpoints": 0,
        "observedGeneration": service["metadata"].get("generation", 1),
        "serviceStatus": "",
        "conditions": [
            condition(conditions, "Ready", False, reason),
            condition(conditions, "UpgradeInProgress", False, reason),
            condition(conditions, "Suspended" if done else "Suspending", True, reason),
        ],
    }


def troubled_status(service: Manifest, words: str) -> Manifest:
    """Return the status of a service whose reconciling failed unforeseen; where it serves, it still does."""
    status: Manifest = service.get("status", {})
    if holds(service, "Ready"):
        return status
    conditions = status.get("conditions", [])
    kept = [found for found in conditions if found["type"] != "Ready"]
    return {**status, "conditions": [condition(conditions, "Ready", False, RECONCILE_FAILED, words), *kept]}


def _ready(service: Manifest, conditions: list[Manifest], endpoints: int) -> Manifest:
    if endpoints:
        return condition(
            conditions, "Ready", True, "NonZeroServeEndpoints", "Number of serve endpoints is greater than 0"
        )
    if holds(service, "Ready") or any(c["reason"] == "ZeroServeEndpoints" for c in conditions):
        return condition(conditions, "Ready", False, "ZeroServeEndpoints", "The number of serve endpoints is 0")
    return condition(conditions, "Ready", False, "Initializing", "RayService is initializing")


def _upgrading(conditions: list[Manifest], active: Manifest | None, pending: Manifest | str | None) -> Manifest:
    if active and pending:
        return condition(conditions, "UpgradeInProgress", True, "BothActivePendingClustersExist", "Both active and pending Ray clusters exist")  # fmt: skip
    if active:
        return condition(conditions, "UpgradeInProgress", False, "NoPendingCluster", "Active Ray cluster exists and no pending Ray cluster")  # fmt: skip
    return condition(conditions, "UpgradeInProgress", False, "Initializing", "RayService is initializing")


def _of_cluster(cluster: Manifest, applications: Mapping[str, Manifest]) -> Manifest:
    found: Manifest = {"rayClusterName": cluster["metadata"]["name"]}
    if cluster.get("status"):
        found["rayClusterStatus"] = cluster["status"]
    if applications:
        found["applicationStatuses"] = dict(applications)
    return found


def _name(status: Manifest, which: str) -> str | None:
    name = status.get(which, {}).get("rayClusterName")
    return str(name) if name else None


def _hash(cluster: Manifest) -> str:
    return str(cluster["metadata"].get("annotations", {}).get(HASH, ""))
