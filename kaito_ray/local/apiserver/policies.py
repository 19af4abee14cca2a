"""NetworkPolicy and PodDisruptionBudget: what a kube-apiserver fills in, and the rules between their fields.

They are stored and not carried out: one machine has no pod network, and its one node is not drained.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kaito_ray.local.apiserver.formats import is_cidr
from kaito_ray.local.apiserver.status import FieldError, forbidden_field, invalid_value, required, unsupported

Manifest = dict[str, Any]

_DIRECTIONS: Final = (("ingress", "from"), ("egress", "to"))
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_PERCENTAGE: Final = re.compile(r"[0-9]+%")


def fill_network_policy(manifest: Manifest) -> None:
    """Fill in the protocol of ports, and which directions are meant."""
    spec = manifest.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for direction, _ in _DIRECTIONS:
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")


def check_network_policy(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    """Return what is wrong with a NetworkPolicy."""
    del old
    spec = manifest["spec"]
    errors = list(_of_selector("spec.podSelector", spec.get("podSelector") or {}))
    for direction, peers in _DIRECTIONS:
        for index, rule in enumerate(spec.get(direction) or ()):
            where = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                errors += _of_port(f"{where}.ports[{number}]", port)
            for number, peer in enumerate(rule.get(peers) or ()):
                errors += _of_peer(f"{where}.{peers}[{number}]", peer)
    types = spec["policyTypes"]
    if len(types) > 2:
        errors.append(invalid_value("spec.policyTypes", types, "may not specify more than two policyTypes"))
    for index, one in enumerate(types):
        if one not in ("Egress", "Ingress"):
            errors.append(unsupported(f"spec.policyTypes[{index}]", one, ("Egress", "Ingress")))
    return errors


def check_disruption_budget(manifest: Manifest, old: Mapping[str, Any] | None) -> list[FieldError]:
    """Return what is wrong with a PodDisruptionBudget."""
    del old
    spec = manifest.get("spec") or {}
    errors: list[FieldError] = []
    bounds = {field: spec[field] for field in ("minAvailable", "maxUnavailable") if field in spec}
    if len(bounds) == 2:
        errors.append(invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in bounds.items():
        errors += _of_bound(f"spec.{field}", value)
    known = ("AlwaysAllow", "IfHealthyBudget")
    if (policy := spec.get("unhealthyPodEvictionPolicy")) is not None and policy not in known:
        errors.append(unsupported("spec.unhealthyPodEvictionPolicy", policy, known))
    return [*errors, *_of_selector("spec.selector", spec.get("selector") or {})]


def _of_port(where: str, port: Mapping[str, Any]) -> Iterator[FieldError]:
    if port["protocol"] not in _PROTOCOLS:
        yield unsupported(f"{where}.protocol", port["protocol"], _PROTOCOLS)
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, int) and not 1 <= first <= 65535:
        yield invalid_value(f"{where}.port", first, "must be between 1 and 65535, inclusive")
    if last is None:
        return
    if not isinstance(first, int):
        words = "is not specified" if first is None else "is non-numeric"
        yield invalid_value(f"{where}.endPort", last, f"may not be specified when `port` {words}")
    elif last < first:
        yield invalid_value(f"{where}.endPort", last, "must be greater than or equal to `port`")
    elif last > 65535:
        yield invalid_value(f"{where}.endPort", last, "must be between 1 and 65535, inclusive")


def _of_peer(where: str, peer: Mapping[str, Any]) -> Iterator[FieldError]:
    selectors = [field for field in ("podSelector", "namespaceSelector") if field in peer]
    for field in selectors:
        yield from _of_selector(f"{where}.{field}", peer[field])
    block = peer.get("ipBlock")
    if block is None:
        if not selectors:
            yield required(where, "must specify a peer")
        return
    if selectors:
        yield forbidden_field(where, "may not specify both ipBlock and another peer")
    yield from _of_block(f"{where}.ipBlock", block)


def _of_block(where: str, block: Mapping[str, Any]) -> Iterator[FieldError]:
    words = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
    cidr = block.get("cidr") or ""
    if not cidr:
        yield required(f"{where}.cidr")
    elif not is_cidr(cidr):
        yield invalid_value(f"{where}.cidr", cidr, words)
    for index, part in enumerate(block.get("except") or ()):
        if not is_cidr(part):
            yield invalid_value(f"{where}.except[{index}]", part, words)
        elif is_cidr(cidr) and not _strictly_inside(part, cidr):
            yield invalid_value(f"{where}.except[{index}]", part, "must be a strict subset of `cidr`")


def _strictly_inside(part: str, whole: str) -> bool:
    inner, outer = ipaddress.ip_network(part, strict=False), ipaddress.ip_network(whole, strict=False)
    if inner.version != outer.version or inner.prefixlen <= outer.prefixlen:
        return False
    return inner.network_address in outer


def _of_bound(where: str, value: Any) -> Iterator[FieldError]:
    if isinstance(value, int):
        if value < 0:
            yield invalid_value(where, value, "must be greater than or equal to 0")
    elif not _PERCENTAGE.fullmatch(str(value)):
        yield invalid_value(where, value, "must be an integer or percentage (e.g '5%')")
    elif int(value[:-1]) > 100:
        yield invalid_value(where, value, "must not be greater than 100%")


def _of_selector(where: str, selector: Mapping[str, Any]) -> Iterator[FieldError]:
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        place = f"{where}.matchExpressions[{index}]"
        operator, values = expression.get("operator"), expression.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                yield required(f"{place}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                yield forbidden_field(f"{place}.values", words)
        else:
            yield invalid_value(f"{place}.operator", operator, "not a valid selector operator")
