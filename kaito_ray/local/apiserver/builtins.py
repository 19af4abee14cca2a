"""What a kube-apiserver does to the built-in kinds beyond their schema: defaults, and rules between fields."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import policies, resources
from kaito_ray.local.apiserver.resources import Kind
from kaito_ray.local.apiserver.status import (
    FieldError,
    duplicate,
    forbidden_field,
    immutable,
    invalid_value,
    required,
    unsupported,
)

LOOPBACK: Final = "127.0.0.1"
"""The address of every Service: there is no cluster network here, and the publisher says the true port in `status`."""

_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_KEY_WORDS: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)

Manifest = dict[str, Any]


def without_nulls(value: Any) -> Any:
    """Return the value without null fields: a built-in kind has no null, only absence."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def fill_defaults(kind: Kind, manifest: Manifest) -> None:
    """Fill in what a kube-apiserver fills in, in place."""
    filler = _DEFAULTS.get(kind.key)
    if filler:
        filler(manifest)


def begin(kind: Kind, manifest: Manifest) -> None:
    """Give a new object the state that the server decides."""
    if kind.key == resources.NAMESPACE.key:
        manifest["status"] = {"phase": "Active"}
        manifest["spec"] = {"finalizers": ["kubernetes"]}
    elif kind.key == resources.POD.key:
        manifest["status"] = {"phase": "Pending", "qosClass": _quality(manifest)}
    elif kind.key == resources.SERVICE.key:
        manifest["status"] = {"loadBalancer": {}}
    elif kind.key == resources.DISRUPTION_BUDGET.key:
        counts = ("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods")
        manifest["status"] = dict.fromkeys(counts, 0)


def carry_over(kind: Kind, manifest: Manifest, old: Manifest) -> None:
    """Keep what an update may leave out although it cannot be unset."""
    if kind.key == resources.SERVICE.key:
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if field in old["spec"]:
                manifest["spec"].setdefault(field, old["spec"][field])
    elif kind.key == resources.NAMESPACE.key:
        manifest["spec"] = old.get("spec", {})


def check(kind: Kind, manifest: Manifest, old: Mapping[str, Any] | None = None) -> list[FieldError]:
    """Return what breaks a rule between the fields of a built-in kind."""
    checker = _CHECKS.get(kind.key)
    return checker(manifest, old) if checker else []


def _namespace(manifest: Manifest) -> None:
    labels = manifest["metadata"].setdefault("labels", {})
    if manifest["metadata"].get("name"):
        labels["kubernetes.io/metadata.name"] = manifest["metadata"]["name"]


def _secret(manifest: Manifest) -> None:
    manifest.setdefault("type", "Opaque")
    texts = manifest.pop("stringData", None) or {}
    if texts:
        encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        manifest["data"] = {**(manifest.get("data") or {}), **encoded}


def _service(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if "targetPort" not in port and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        spec.setdefault("clusterIP", LOOPBACK)
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilies", ["IPv4"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        spec.setdefault("externalTrafficPolicy", "Cluster")


def _deployment(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("progressDeadlineSeconds", 600)
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxSurge": "25%", "maxUnavailable": "25%", **strategy.get("rollingUpdate", {})}
    _pod(spec.setdefault("template", {}))


def _stateful_set(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("revisionHistoryLimit", 10)
    _pod(spec.setdefault("template", {}))


def _pod(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    for field, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
        ("terminationGracePeriodSeconds", 30),
        ("enableServiceLinks", True),
        ("securityContext", {}),
        ("serviceAccountName", "default"),
    ):
        spec.setdefault(field, value)
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        image = container.get("image", "")
        latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
        container.setdefault("imagePullPolicy", "Always" if latest and "@" not in image else "IfNotPresent")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")
        for name, limit in (container["resources"].get("limits") or {}).items():
            container["resources"].setdefault("requests", {}).setdefault(name, limit)


def _webhooks(manifest: Manifest) -> None:
    for hook in manifest.get("webhooks") or ():
        hook.setdefault("failurePolicy", "Fail")
        hook.setdefault("matchPolicy", "Equivalent")
        hook.setdefault("timeoutSeconds", 10)
        hook.setdefault("namespaceSelector", {})
        hook.setdefault("objectSelector", {})
        for rule in hook.get("rules") or ():
            rule.setdefault("scope", "*")


def _quality(manifest: Manifest) -> str:
    """Return the pod's quality-of-service class."""
    resources_of = [container.get("resources") or {} for container in manifest["spec"].get("containers") or ()]
    if not any(one.get("requests") or one.get("limits") for one in resources_of):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= (one.get("limits") or {}).keys() and one.get("requests") == one.get("limits")
        for one in resources_of
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _check_secret(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    errors = _check_keys(manifest, ("data",))
    for key, value in (manifest.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            errors.append(invalid_value(f"data[{key}]", value, "illegal base64 data"))
    if old is not None:
        if manifest.get("type") != old.get("type"):
            errors.append(immutable("type", manifest.get("type")))
        errors += _check_immutable(manifest, old, ("data",))
    return errors


def _check_config_map(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    errors = _check_keys(manifest, ("data", "binaryData"))
    return errors + (_check_immutable(manifest, old, ("data", "binaryData")) if old is not None else [])


def _check_keys(manifest: Manifest, fields: tuple[str, ...]) -> list[FieldError]:
    return [
        invalid_value(f"{field}[{key}]", key, _KEY_WORDS)
        for field in fields
        for key in manifest.get(field) or {}
        if not _KEY.fullmatch(key)
    ]


def _check_immutable(manifest: Manifest, old: Mapping[str, Any], fields: tuple[str, ...]) -> list[FieldError]:
    if not old.get("immutable"):
        return []
    errors = []
    if not manifest.get("immutable"):
        errors.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
    errors += [
        forbidden_field(field, "field is immutable when `immutable` is set")
        for field in fields
        if manifest.get(field) != old.get(field)
    ]
    return errors


def _check_service(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    spec = manifest["spec"]
    errors: list[FieldError] = []
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        errors.append(required("spec.ports"))
    if spec["type"] not in ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"):
        allowed = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
        errors.append(unsupported("spec.type", spec["type"], allowed))
    seen: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            errors.append(required(f"{where}.name"))
        if not 1 <= port.get("port", 0) <= 65535:
            detail = "must be between 1 and 65535, inclusive"
            errors.append(invalid_value(f"{where}.port", port.get("port", 0), detail))
        key = (port.get("port"), port["protocol"])
        if key in seen:
            errors.append(duplicate(where, {"port": key[0], "protocol": key[1]}))
        seen.add(key)
    if old is not None and old["spec"].get("clusterIP") != spec.get("clusterIP") and spec["type"] != "ExternalName":
        errors.append(invalid_value("spec.clusterIPs[0]", spec.get("clusterIPs", [""]), "may not change once set"))
    return errors


def _check_pod(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    spec = manifest["spec"]
    errors: list[FieldError] = []
    if old is not None:
        return _check_pod_update(spec, old["spec"])
    if not spec.get("containers"):
        errors.append(required("spec.containers"))
    seen: set[str] = set()
    for index, container in enumerate(spec.get("containers") or ()):
        where = f"spec.containers[{index}]"
        errors += [required(f"{where}.{field}") for field in ("name", "image") if not container.get(field)]
        if container.get("name") in seen:
            errors.append(duplicate(f"{where}.name", container["name"]))
        seen.add(container.get("name", ""))
    return errors


def _check_pod_update(spec: Manifest, old: Mapping[str, Any]) -> list[FieldError]:
    def comparable(one: Mapping[str, Any]) -> dict[str, Any]:
        free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
        rest = {key: value for key, value in one.items() if key not in free}
        for field in ("containers", "initContainers"):
            if field in rest:
                rest[field] = [{k: v for k, v in container.items() if k != "image"} for container in rest[field]]
        return rest

    if comparable(spec) == comparable(old):
        return []
    detail = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    return [forbidden_field("spec", detail)]


def _check_replicated(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    """Check what Deployments and StatefulSets have in common."""
    spec = manifest["spec"]
    selector, labels = spec["selector"], spec["template"].get("metadata", {}).get("labels") or {}
    errors: list[FieldError] = []
    if old is not None and old["spec"]["selector"] != selector:
        errors.append(immutable("spec.selector", selector))
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        errors.append(
            invalid_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
        )
    if not spec["template"]["spec"].get("containers"):
        errors.append(required("spec.template.spec.containers"))
    return errors


def _check_lease(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    del old
    duration = (manifest.get("spec") or {}).get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        return [invalid_value("spec.leaseDurationSeconds", duration, "must be greater than 0")]
    return []


def _check_webhooks(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    del old
    errors: list[FieldError] = []
    for index, hook in enumerate(manifest.get("webhooks") or ()):
        where = f"webhooks[{index}]"
        if hook.get("name", "").count(".") < 2:
            words = "should be a domain with at least three segments separated by dots"
            errors.append(invalid_value(f"{where}.name", hook.get("name", ""), words))
        if hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            errors.append(required(f"{where}.sideEffects", "must specify one of None, NoneOnDryRun"))
        if "v1" not in (hook.get("admissionReviewVersions") or ()):
            errors.append(required(f"{where}.admissionReviewVersions", "must specify one of v1, v1beta1"))
        if not 1 <= hook["timeoutSeconds"] <= 30:
            words = "the timeout value must be between 1 and 30 seconds"
            errors.append(invalid_value(f"{where}.timeoutSeconds", hook["timeoutSeconds"], words))
        config = hook.get("clientConfig") or {}
        if ("url" in config) == ("service" in config):
            errors.append(required(f"{where}.clientConfig", "exactly one of url or service is required"))
        elif "url" in config and not config["url"].startswith("https://"):
            words = "'https' is the only allowed URL scheme"
            errors.append(invalid_value(f"{where}.clientConfig.url", config["url"], words))
    return errors


def _check_event(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    del old
    involved = (manifest.get("involvedObject") or {}).get("namespace", "")
    namespace = manifest["metadata"].get("namespace", "")
    if (involved or "default") != namespace:
        detail = "does not match event.namespace"
        return [invalid_value("involvedObject.namespace", involved, detail)]
    return []


_DEFAULTS: Final[Mapping[str, Callable[[Manifest], None]]] = {
    resources.NAMESPACE.key: _namespace,
    resources.SECRET.key: _secret,
    resources.SERVICE.key: _service,
    resources.POD.key: _pod,
    resources.DEPLOYMENT.key: _deployment,
    resources.STATEFUL_SET.key: _stateful_set,
    resources.WEBHOOK.key: _webhooks,
    resources.NETWORK_POLICY.key: policies.fill_network_policy,
}
_CHECKS: Final[Mapping[str, Callable[[Manifest, Mapping[str, Any] | None], list[FieldError]]]] = {
    resources.SECRET.key: _check_secret,
    resources.CONFIG_MAP.key: _check_config_map,
    resources.SERVICE.key: _check_service,
    resources.POD.key: _check_pod,
    resources.DEPLOYMENT.key: _check_replicated,
    resources.STATEFUL_SET.key: _check_replicated,
    resources.LEASE.key: _check_lease,
    resources.EVENT.key: _check_event,
    resources.WEBHOOK.key: _check_webhooks,
    resources.NETWORK_POLICY.key: policies.check_network_policy,
    resources.DISRUPTION_BUDGET.key: policies.check_disruption_budget,
}
