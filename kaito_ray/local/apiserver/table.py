"""Server-side tables: what `kubectl get` prints, for our kinds by their printer columns, for the built-in ones by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import ages, jsonpath, resources
from kaito_ray.local.apiserver.resources import Kind

Manifest = Mapping[str, Any]
Cells = Callable[[Manifest], list[Any]]
Columns = list[dict[str, Any]]


def render(
    kind: Kind, printer_columns: list[Mapping[str, Any]], objects: Iterable[Manifest], *, include: str, version: str
) -> dict[str, Any]:
    """Return a `meta.k8s.io/v1` Table of the objects.

    `include` says what stands in each row beside the cells: `Metadata`, `Object` or `None`.
    """
    columns, cells = _custom(printer_columns) if kind.custom else _built_in(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": columns,
        "rows": [{"cells": cells(one), **_beside(one, include)} for one in objects],
    }


def _beside(manifest: Manifest, include: str) -> dict[str, Any]:
    if include == "None":
        return {}
    if include == "Object":
        return {"object": manifest}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": manifest["metadata"]}
    return {"object": partial}


def _column(
    name: str, type: str = "string", priority: int = 0, format: str = "", description: str = ""
) -> dict[str, Any]:
    return {"name": name, "type": type, "format": format, "description": description, "priority": priority}


_NAME: Final = _column("Name", format="name", description="Name must be unique within a namespace.")
_AGE: Final = _column("Age", description="CreationTimestamp is the time at which this object was created.")


def _custom(printer_columns: list[Mapping[str, Any]]) -> tuple[Columns, Cells]:
    chosen = printer_columns or [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    columns = [
        _NAME,
        *(
            _column(one["name"], one["type"], one.get("priority", 0), one.get("format", ""), one.get("description", ""))
            for one in chosen
        ),
    ]
    return columns, lambda manifest: [manifest["metadata"]["name"], *(_cell(one, manifest) for one in chosen)]


def _cell(column: Mapping[str, Any], manifest: Manifest) -> Any:
    found = jsonpath.find(column["jsonPath"], manifest)
    if not found or found[0] is None:
        return None
    value, wanted = found[0], column["type"]
    if wanted == "date":
        return ages.since(value)
    if wanted == "integer":
        return int(value) if isinstance(value, int | float) else None
    if wanted == "number":
        return value if isinstance(value, int | float) else None
    if wanted == "boolean":
        return value if isinstance(value, bool) else None
    texts = [one if isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in found]
    return ",".join(texts)


def _built_in(kind: Kind) -> tuple[Columns, Cells]:
    if kind.key in _BUILT_IN:
        return _BUILT_IN[kind.key]
    return [_NAME, _column("Created At")], lambda one: [_name(one), one["metadata"].get("creationTimestamp")]


def _name(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["name"]
    return name


def _age(manifest: Manifest) -> str:
    return ages.since(manifest["metadata"].get("creationTimestamp"))


def _pod(pod: Manifest) -> list[Any]:
    spec, status = pod.get("spec", {}), pod.get("status", {})
    states = status.get("containerStatuses") or []
    ready = sum(bool(one.get("ready")) for one in states)
    restarts = str(sum(one.get("restartCount", 0) for one in states))
    ended = [((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for one in states]
    if restarts != "0" and any(ended):
        restarts += f" ({ages.since(max(filter(None, ended)))} ago)"
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or ()]
    return [
        _name(pod),
        f"{ready}/{len(spec.get('containers') or ())}",
        _pod_reason(pod, states),
        restarts,
        _age(pod),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        str(len(gates)) if gates else "<none>",
    ]


def _pod_reason(pod: Manifest, states: list[Manifest]) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase") or "Unknown"
    for one in reversed(states):
        state = one.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated:
            reason = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode', 0)}"
    return str(reason)


def _node(node: Manifest) -> list[Any]:
    status = node.get("status", {})
    info = status.get("nodeInfo") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    words = {"True": "Ready", None: "Unknown"}.get(conditions.get("Ready"), "NotReady")
    if node.get("spec", {}).get("unschedulable"):
        words += ",SchedulingDisabled"
    labels = node["metadata"].get("labels") or {}
    prefix = "node-role.kubernetes.io/"
    roles = sorted(key.removeprefix(prefix) for key in labels if key.startswith(prefix))
    addresses = {one["type"]: one["address"] for one in status.get("addresses") or ()}
    return [
        _name(node),
        words,
        ",".join(roles) or "<none>",
        _age(node),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _service(service: Manifest) -> list[Any]:
    spec = service.get("spec", {})
    ports = ",".join(f"{one['port']}/{one.get('protocol', 'TCP')}" for one in spec.get("ports") or ())
    ingress = (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or ()
    outside = ",".join(filter(None, (one.get("ip") or one.get("hostname") for one in ingress)))
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    return [
        _name(service),
        spec.get("type", "ClusterIP"),
        spec.get("clusterIP") or "<none>",
        outside or spec.get("externalName") or "<none>",
        ports or "<none>",
        _age(service),
        selector or "<none>",
    ]


def _ready_of(replicated: Manifest) -> str:
    return f"{replicated.get('status', {}).get('readyReplicas', 0)}/{replicated['spec']['replicas']}"


def _network_policy(policy: Manifest) -> list[Any]:
    selector = (policy.get("spec", {}).get("podSelector") or {}).get("matchLabels") or {}
    return [
        _name(policy),
        ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or "<none>",
        _age(policy),
    ]


def _disruption_budget(budget: Manifest) -> list[Any]:
    spec = budget.get("spec") or {}
    bounds = [str(spec.get(field, "N/A")) for field in ("minAvailable", "maxUnavailable")]
    return [_name(budget), *bounds, (budget.get("status") or {}).get("disruptionsAllowed", 0), _age(budget)]


def _event(event: Manifest) -> list[Any]:
    involved = event.get("involvedObject") or {}
    source = event.get("source") or {}
    series = event.get("series") or {}
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    seen = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return [
        ages.since(last),
        event.get("type", ""),
        event.get("reason", ""),
        seen,
        involved.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        str(event.get("message", "")).strip(),
        ages.since(first),
        series.get("count") or event.get("count") or 1,
        _name(event),
    ]


_BUILT_IN: Final[Mapping[str, tuple[Columns, Cells]]] = {
    resources.POD.key: (
        [
            _NAME,
            *map(_column, ("Ready", "Status", "Restarts", "Age")),
            *(_column(name, priority=1) for name in ("IP", "Node", "Nominated Node", "Readiness Gates")),
        ],
        _pod,
    ),
    resources.NODE.key: (
        [
            _NAME,
            *map(_column, ("Status", "Roles", "Age", "Version")),
            *(
                _column(name, priority=1)
                for name in ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime")
            ),
        ],
        _node,
    ),
    resources.SERVICE.key: (
        [
            _NAME,
            *map(_column, ("Type", "Cluster-IP", "External-IP", "Port(s)", "Age")),
            _column("Selector", priority=1),
        ],
        _service,
    ),
    resources.EVENT.key: (
        [
            *map(_column, ("Last Seen", "Type", "Reason", "Object")),
            _column("Subobject", priority=1),
            _column("Source", priority=1),
            _column("Message"),
            _column("First Seen", priority=1),
            _column("Count", priority=1),
            _column("Name", priority=1, format="name"),
        ],
        _event,
    ),
    resources.DEPLOYMENT.key: (
        [_NAME, _column("Ready"), _column("Up-to-date"), _column("Available"), _AGE],
        lambda one: [
            _name(one),
            _ready_of(one),
            one.get("status", {}).get("updatedReplicas", 0),
            one.get("status", {}).get("availableReplicas", 0),
            _age(one),
        ],
    ),
    resources.STATEFUL_SET.key: (
        [_NAME, _column("Ready"), _AGE],
        lambda one: [_name(one), _ready_of(one), _age(one)],
    ),
    resources.NAMESPACE.key: (
        [_NAME, _column("Status"), _AGE],
        lambda one: [_name(one), one.get("status", {}).get("phase", "Active"), _age(one)],
    ),
    resources.SECRET.key: (
        [_NAME, _column("Type"), _column("Data"), _AGE],
        lambda one: [_name(one), one.get("type", "Opaque"), len(one.get("data") or ()), _age(one)],
    ),
    resources.CONFIG_MAP.key: (
        [_NAME, _column("Data"), _AGE],
        lambda one: [_name(one), len(one.get("data") or ()) + len(one.get("binaryData") or ()), _age(one)],
    ),
    resources.SERVICE_ACCOUNT.key: (
        [_NAME, _column("Secrets"), _AGE],
        lambda one: [_name(one), len(one.get("secrets") or ()), _age(one)],
    ),
    resources.LEASE.key: (
        [_NAME, _column("Holder"), _AGE],
        lambda one: [_name(one), (one.get("spec") or {}).get("holderIdentity", ""), _age(one)],
    ),
    resources.NETWORK_POLICY.key: ([_NAME, _column("Pod-Selector"), _AGE], _network_policy),
    resources.DISRUPTION_BUDGET.key: (
        [
            _NAME,
            *map(_column, ("Min Available", "Max Unavailable")),
            _column("Allowed Disruptions", "integer"),
            _AGE,
        ],
        _disruption_budget,
    ),
    resources.WEBHOOK.key: (
        [_NAME, _column("Webhooks"), _AGE],
        lambda one: [_name(one), len(one.get("webhooks") or ()), _age(one)],
    ),
}
