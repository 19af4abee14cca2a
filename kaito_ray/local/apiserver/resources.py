"""The kinds that are served: the built-in ones, and those that CustomResourceDefinitions add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """One kind in one version, as a path addresses it.

    `stored_as` is the key under which objects lie in the store: all versions of a kind share it, and so do the two
    groups of Event. `subresources` are the writable ones (`status`).
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    custom: bool = False
    stored_as: str = ""
    storage_version: str = ""
    unconditional_update: bool = True
    tracks_generation: bool = False
    deprecation: str = ""

    @property
    def key(self) -> str:
        """Return the key of the kind in the store."""
        return self.stored_as or f"{self.group}/{self.plural}"

    @property
    def api_version(self) -> str:
        """Return `group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Return `plural.group`, as errors name a kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def group_kind(self) -> str:
        """Return `Kind.group`, as validation errors name a kind."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def singular_name(self) -> str:
        """Return the name for one, in lower case."""
        return self.singular or self.kind.lower()

    @property
    def has_status(self) -> bool:
        """Say whether `status` is a subresource."""
        return "status" in self.subresources


_STATUS: Final = ("status",)

CRD: Final = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=_STATUS,
    unconditional_update=False,
    tracks_generation=True,
)
WEBHOOK: Final = Kind(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
    categories=("api-extensions",),
    unconditional_update=False,
    tracks_generation=True,
)
NAMESPACE: Final = Kind(
    "", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",), subresources=("status", "finalize")
)
POD: Final = Kind(
    "",
    "v1",
    "pods",
    "Pod",
    short_names=("po",),
    categories=("all",),
    subresources=_STATUS,
    tracks_generation=True,
)
SERVICE: Final = Kind("", "v1", "services", "Service", short_names=("svc",), categories=("all",), subresources=_STATUS)
NODE: Final = Kind("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), subresources=_STATUS)
SECRET: Final = Kind("", "v1", "secrets", "Secret")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
CLAIM: Final = Kind(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), subresources=_STATUS
)
SERVICE_ACCOUNT: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",))
EVENT: Final = Kind("", "v1", "events", "Event", short_names=("ev",))
EVENT_V1: Final = Kind("events.k8s.io", "v1", "events", "Event", short_names=("ev",), stored_as=EVENT.key)
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease", unconditional_update=False)
# Nothing here runs these three; they are served for what is tried out here before it goes to a cluster.
DEPLOYMENT: Final = Kind(
    "apps",
    "v1",
    "deployments",
    "Deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=_STATUS,
    tracks_generation=True,
)
STATEFUL_SET: Final = Kind(
    "apps",
    "v1",
    "statefulsets",
    "StatefulSet",
    short_names=("sts",),
    categories=("all",),
    subresources=_STATUS,
    tracks_generation=True,
)
REVISION: Final = Kind("apps", "v1", "controllerrevisions", "ControllerRevision")
NETWORK_POLICY: Final = Kind(
    "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",), tracks_generation=True
)
DISRUPTION_BUDGET: Final = Kind(
    "policy",
    "v1",
    "poddisruptionbudgets",
    "PodDisruptionBudget",
    short_names=("pdb",),
    subresources=_STATUS,
    unconditional_update=False,
    tracks_generation=True,
)

BUILT_IN: Final = (
    CONFIG_MAP,
    EVENT,
    NAMESPACE,
    NODE,
    CLAIM,
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    SERVICE,
    CRD,
    WEBHOOK,
    LEASE,
    EVENT_V1,
    DEPLOYMENT,
    STATEFUL_SET,
    REVISION,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
)


def kinds_of(crd: Mapping[str, Any]) -> Iterator[Kind]:
    """Yield a Kind for each served version of a CustomResourceDefinition, the preferred one first."""
    spec = crd["spec"]
    names = spec["names"]
    stored = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    served = [version for version in spec["versions"] if version.get("served")]
    for version in sorted(served, key=lambda one: version_priority(one["name"])):
        subresources = version.get("subresources") or {}
        warning = ""
        if version.get("deprecated"):
            called = f"{spec['group']}/{version['name']} {names['kind']}"
            warning = version.get("deprecationWarning") or f"{called} is deprecated"
        yield Kind(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            singular=names.get("singular", ""),
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            subresources=_STATUS if "status" in subresources else (),
            custom=True,
            storage_version=stored,
            unconditional_update=False,
            tracks_generation=True,
            deprecation=warning,
        )


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Return a sort key that puts v2 before v1, v1 before v1beta1, and that before v1alpha1 and foreign names."""
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (3, 0, 0, version)
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return (stage, -int(match[1]), -int(match[3] or 0), version)


class Registry:
    """All kinds, by path. CustomResourceDefinitions come and go; whoever writes one calls `add` or `remove`."""

    def __init__(self) -> None:
        self._custom: dict[str, tuple[Kind, ...]] = {}

    def add(self, crd: Mapping[str, Any]) -> None:
        """Serve the versions of this CustomResourceDefinition, in place of what its name served before."""
        self._custom[crd["metadata"]["name"]] = tuple(kinds_of(crd))

    def remove(self, name: str) -> None:
        """Serve this CustomResourceDefinition no more."""
        self._custom.pop(name, None)

    def kinds(self) -> Iterator[Kind]:
        """Yield every kind in every version."""
        yield from BUILT_IN
        for kinds in self._custom.values():
            yield from kinds

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """Return the kind that a path names."""
        for kind in self.kinds():
            if (kind.plural, kind.version, kind.group) == (plural, version, group):
                return kind
        return None

    def by_key(self, key: str) -> Kind | None:
        """Return the kind whose objects lie under that key of the store, in its preferred version."""
        return next((kind for kind in self.stored() if kind.key == key), None)

    def stored(self) -> Iterator[Kind]:
        """Yield each kind once: of several versions, the preferred one."""
        seen: set[str] = set()
        for kind in self.kinds():
            if kind.key not in seen:
                seen.add(kind.key)
                yield kind
