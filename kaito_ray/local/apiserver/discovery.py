"""Discovery: which groups, versions and kinds there are; in the plain form and in the aggregated one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver.builtin_schemas import KUBERNETES
from kaito_ray.local.apiserver.resources import POD, VERBS, Kind, Registry, version_priority

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
REVIEWS: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews")
"""Questions about permissions; whoever has the token may do everything."""
_REVIEW_GROUP: Final = "authorization.k8s.io"
_REVIEW_KINDS: Final = {
    "selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "selfsubjectrulesreviews": "SelfSubjectRulesReview",
}


def version_info() -> dict[str, str]:
    """Return the body of `/version`."""
    major, minor = KUBERNETES.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{KUBERNETES}.0+kaito-ray",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "cpython",
        "platform": "linux/amd64",
    }


def versions(registry: Registry) -> dict[str, list[str]]:
    """Return the versions of each named group, the preferred one first."""
    found: dict[str, list[str]] = {_REVIEW_GROUP: ["v1"]}
    for kind in registry.kinds():
        if kind.group:
            known = found.setdefault(kind.group, [])
            if kind.version not in known:
                known.append(kind.version)
    return {group: sorted(known, key=version_priority) for group, known in sorted(found.items())}


def group(name: str, known: list[str]) -> dict[str, Any]:
    """Return the APIGroup."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in known]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list(registry: Registry) -> dict[str, Any]:
    """Return the body of `/apis`."""
    groups = [group(name, known) for name, known in versions(registry).items()]
    for one in groups:
        del one["kind"], one["apiVersion"]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(registry: Registry, group_name: str, version: str) -> dict[str, Any] | None:
    """Return the APIResourceList of one group and version, None where there is none."""
    listed: list[dict[str, Any]] = []
    for kind in _kinds(registry, group_name, version):
        listed.append(
            {
                "name": kind.plural,
                "singularName": kind.singular_name,
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": list(VERBS),
                **({"shortNames": list(kind.short_names)} if kind.short_names else {}),
                **({"categories": list(kind.categories)} if kind.categories else {}),
            }
        )
        for name, verbs in _subresources(kind).items():
            listed.append(
                {
                    "name": f"{kind.plural}/{name}",
                    "singularName": "",
                    "namespaced": kind.namespaced,
                    "kind": kind.kind,
                    "verbs": verbs,
                }
            )
    if group_name == _REVIEW_GROUP and version == "v1":
        listed += [
            {"name": name, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["create"]}
            for name, kind in _REVIEW_KINDS.items()
        ]
    if not listed:
        return None
    called = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": called, "resources": listed}


def aggregated(registry: Registry, *, core: bool) -> dict[str, Any]:
    """Return the APIGroupDiscoveryList of `/api` or `/apis`."""
    groups = {"": ["v1"]} if core else versions(registry)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
                "versions": [_aggregated_version(registry, name, version) for version in known],
            }
            for name, known in groups.items()
        ],
    }


def _aggregated_version(registry: Registry, group_name: str, version: str) -> dict[str, Any]:
    listed = [_aggregated_kind(kind) for kind in _kinds(registry, group_name, version)]
    if group_name == _REVIEW_GROUP:
        listed = [
            {
                "resource": name,
                "responseKind": {"group": group_name, "version": version, "kind": kind},
                "scope": "Cluster",
                "singularResource": "",
                "verbs": ["create"],
            }
            for name, kind in _REVIEW_KINDS.items()
        ]
    return {"version": version, "freshness": "Current", "resources": listed}


def _aggregated_kind(kind: Kind) -> dict[str, Any]:
    gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    body: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": gvk,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        body["shortNames"] = list(kind.short_names)
    if kind.categories:
        body["categories"] = list(kind.categories)
    subresources = [
        {"subresource": name, "responseKind": gvk, "verbs": verbs} for name, verbs in _subresources(kind).items()
    ]
    if subresources:
        body["subresources"] = subresources
    return body


def _subresources(kind: Kind) -> Mapping[str, list[str]]:
    verbs = {"status": ["get", "patch", "update"], "finalize": ["update"]}
    found = {name: verbs[name] for name in kind.subresources}
    if kind.key == POD.key:
        found["log"] = ["get"]
    return found


def _kinds(registry: Registry, group_name: str, version: str) -> Iterable[Kind]:
    return [kind for kind in registry.kinds() if kind.group == group_name and kind.version == version]
