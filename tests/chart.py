"""The chart, rendered by Helm's own engine, and what its roles allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from json import dumps, loads
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

CHART = Path(__file__).parents[1] / "charts" / "kaito-ray"
NAMESPACE = "kaito-ray-system"
EVERYWHERE = {"rbac": {"clusterSecrets": True}}

Manifest = dict[str, Any]


def render(values: Manifest) -> list[Manifest]:
    """Return every object that the chart makes of these values."""
    return loads(_rendered(dumps(values, sort_keys=True)))


@cache
def _rendered(values: str) -> str:
    with Chart.load(CHART) as chart:
        files = chart.render(values=loads(values), name="kaito-ray", namespace=NAMESPACE)
    documents = (yaml.safe_load_all(text) for name, text in sorted(files.items()) if name.endswith(".yaml"))
    return dumps([manifest for file in documents for manifest in file if manifest])


def one(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the only object of that kind, or that one of them."""
    (found,) = (m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"]))
    return found


@dataclass(frozen=True)
class Request:
    """What an API server's authorizer looks at."""

    verb: str
    group: str
    resource: str
    """With its subresource: `workspaces/status`."""
    namespace: str = ""
    name: str = ""


def rules(manifests: list[Manifest], namespace: str) -> Iterator[Manifest]:
    """Yield every rule that holds in that namespace; in "" those of cluster roles alone."""
    for manifest in manifests:
        role = manifest["kind"] == "Role" and manifest["metadata"]["namespace"] == namespace
        if role or manifest["kind"] == "ClusterRole":
            yield from manifest["rules"]


def allowed(manifests: list[Manifest], wanted: Request) -> bool:
    """Return whether the operator's roles allow the request."""
    return any(
        wanted.group in rule["apiGroups"]
        and wanted.resource in rule["resources"]
        and wanted.verb in rule["verbs"]
        and (not (named := rule.get("resourceNames")) or wanted.name in named)
        for rule in rules(manifests, wanted.namespace)
    )
