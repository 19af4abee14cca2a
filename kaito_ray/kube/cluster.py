"""The few calls that we make to an API server, as a protocol, and what each raises.

Everything above `kube/` is written against `Cluster`; `client.py` is the real one, `kaito_ray.testing` has a fake one.
Manifests are plain dicts, as on the wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from kaito_ray.api import names

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Resource:
    """A kind as the API server addresses it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    strict: bool = False
    """Whether the server is to refuse fields that it does not know: where a person wrote them. Else it drops them."""

    @property
    def api_version(self) -> str:
        """Return `group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


WORKSPACES: Final = Resource(names.GROUP, names.VERSION, names.PLURAL, names.KIND)
RAY_SERVICES: Final = Resource("ray.io", "v1", "rayservices", "RayService")
RAY_CLUSTERS: Final = Resource("ray.io", "v1", "rayclusters", "RayCluster")
RAY_JOBS: Final = Resource("ray.io", "v1", "rayjobs", "RayJob")
NODE_POOLS: Final = Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)
NODE_CLAIMS: Final = Resource("karpenter.sh", "v1", "nodeclaims", "NodeClaim", namespaced=False)
NODES: Final = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
PERSISTENT_VOLUME_CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment", strict=True)
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
DISRUPTION_BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
REVISIONS: Final = Resource("apps", "v1", "controllerrevisions", "ControllerRevision")
EVENTS: Final = Resource("", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CRDS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)


@dataclass(frozen=True)
class Change:
    """One thing that a watch saw. `SYNCED` says: everything that existed at the start has been reported."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Manifest


class Cluster(Protocol):
    """The API server, seen from the operator.

    Every method raises `errors.ApiUnavailable` for 429, 5xx, time-outs and lost connections, and
    `errors.ApiRefused` with the server's own words for 400, 403 and 422.
    """

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | None:
        """Return the object, or None where there is none (404, also when the kind itself is unknown)."""

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """Return every object, in all namespaces where none is named; empty where the kind is unknown.

        `labels` and `fields` (such as `involvedObject.uid` of Events) are selected by the server.
        """

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Return the stored object.

        Raises:
            errors.Conflict: an object of that name exists.
        """

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Return the stored object; `metadata.resourceVersion` must be the one that was read.

        Raises:
            errors.Conflict: the object changed or went away since it was read.
        """

    async def replace_status(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Store `status` alone, through the status subresource; otherwise as `replace`."""

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """Ask for deletion; no error where the object (with that `uid`) is gone already."""

    def watch(self, resource: Resource, namespace: str | None = None) -> AsyncIterator[Change]:
        """Yield all there is, then `SYNCED`, then each change, for ever.

        Lost connections, 410 and time-outs are mended inside, by listing again: what vanished meanwhile is reported
        as DELETED. A kind that is not (yet) known counts as empty and is looked for again.
        """

    async def close(self) -> None:
        """Release connections."""
