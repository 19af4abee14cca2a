"""Kubernetes' protobuf, as far as kubectl's own commands write it: `create namespace | configmap | secret | ...`.

`kubectl apply -f` and the Python client send JSON; typed clients in Go prefer protobuf. The messages below are those that
kubectl creates that way, by the field numbers of Kubernetes' `generated.proto` files (stable by its API rules). A
message or a field that is not listed is refused, never dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"


class Unreadable(ValueError):
    """The message is broken, or not one of those listed here."""


@dataclass(frozen=True)
class Field:
    """A field: its JSON name, and how its value is read. `many` for a list, `keyed` for a map from strings.

    `pointer` for a field that Go can leave out: there, false and 0 mean something. Any other field is written even
    when it is empty, and in JSON it is absent then.
    """

    name: str
    type: str = "string"
    many: bool = False
    keyed: bool = False
    pointer: bool = False


def _map(name: str, of: str = "string") -> Field:
    return Field(name, of, keyed=True)


def _list(name: str, of: str = "string") -> Field:
    return Field(name, of, many=True)


_META: Final = Field("metadata", "ObjectMeta")
_MESSAGES: Final[Mapping[str, Mapping[int, Field]]] = {
    "ObjectMeta": {
        1: Field("name"),
        2: Field("generateName"),
        3: Field("namespace"),
        4: Field("selfLink"),
        5: Field("uid"),
        6: Field("resourceVersion"),
        7: Field("generation", "int"),
        8: Field("creationTimestamp", "time"),
        9: Field("deletionTimestamp", "time"),
        10: Field("deletionGracePeriodSeconds", "int", pointer=True),
        11: _map("labels"),
        12: _map("annotations"),
        13: _list("ownerReferences", "OwnerReference"),
        14: _list("finalizers"),
    },
    "OwnerReference": {
        1: Field("kind"),
        3: Field("name"),
        4: Field("uid"),
        5: Field("apiVersion"),
        6: Field("controller", "bool", pointer=True),
        7: Field("blockOwnerDeletion", "bool", pointer=True),
    },
    "Namespace": {1: _META, 2: Field("spec", "NamespaceSpec"), 3: Field("status", "NamespaceStatus")},
    "NamespaceSpec": {1: _list("finalizers")},
    "NamespaceStatus": {1: Field("phase")},
    "ConfigMap": {
        1: _META,
        2: _map("data"),
        3: _map("binaryData", "bytes"),
        4: Field("immutable", "bool", pointer=True),
    },
    "Secret": {
        1: _META,
        2: _map("data", "bytes"),
        3: Field("type"),
        4: _map("stringData"),
        5: Field("immutable", "bool", pointer=True),
    },
    "ServiceAccount": {1: _META, 4: Field("automountServiceAccountToken", "bool", pointer=True)},
    "Service": {1: _META, 2: Field("spec", "ServiceSpec"), 3: Field("status", "ServiceStatus")},
    "ServiceSpec": {
        1: _list("ports", "ServicePort"),
        2: _map("selector"),
        3: Field("clusterIP"),
        4: Field("type"),
        5: _list("externalIPs"),
        7: Field("sessionAffinity"),
        8: Field("loadBalancerIP"),
        9: _list("loadBalancerSourceRanges"),
        10: Field("externalName"),
        11: Field("externalTrafficPolicy"),
        12: Field("healthCheckNodePort", "int"),
        13: Field("publishNotReadyAddresses", "bool"),
        17: Field("ipFamilyPolicy"),
        18: _list("clusterIPs"),
        19: _list("ipFamilies"),
        22: Field("internalTrafficPolicy"),
    },
    "ServiceStatus": {1: Field("loadBalancer", "LoadBalancerStatus")},
    "LoadBalancerStatus": {},
    "ServicePort": {
        1: Field("name"),
        2: Field("protocol"),
        3: Field("port", "int"),
        4: Field("targetPort", "intOrString"),
        5: Field("nodePort", "int"),
        6: Field("appProtocol"),
    },
    "SelfSubjectAccessReview": {1: _META, 2: Field("spec", "AccessSpec"), 3: Field("status", "AccessStatus")},
    "AccessSpec": {1: Field("resourceAttributes", "Attributes"), 2: Field("nonResourceAttributes", "PathAttributes")},
    "AccessStatus": {
        1: Field("allowed", "bool"),
        2: Field("reason"),
        3: Field("evaluationError"),
        4: Field("denied", "bool"),
    },
    "Attributes": {
        1: Field("namespace"),
        2: Field("verb"),
        3: Field("group"),
        4: Field("version"),
        5: Field("resource"),
        6: Field("subresource"),
        7: Field("name"),
    },
    "PathAttributes": {1: Field("path"), 2: Field("verb")},
    "SelfSubjectRulesReview": {1: _META, 2: Field("spec", "RulesSpec"), 3: Field("status", "RulesStatus")},
    "RulesSpec": {1: Field("namespace")},
    "RulesStatus": {3: Field("incomplete", "bool"), 4: Field("evaluationError")},
    "DeleteOptions": {
        1: Field("gracePeriodSeconds", "int", pointer=True),
        2: Field("preconditions", "Preconditions"),
        3: Field("orphanDependents", "bool", pointer=True),
        4: Field("propagationPolicy"),
        5: _list("dryRun"),
    },
    "Preconditions": {1: Field("uid"), 2: Field("resourceVersion")},
}


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in an envelope of Kubernetes' protobuf.

    Raises:
        Unreadable: with the reason.
    """
    if not body.startswith(_MAGIC):
        raise Unreadable("the body is not Kubernetes' protobuf")
    envelope = dict(_wire(body[len(_MAGIC) :]))
    type_meta = dict(_wire(_bytes(envelope.get(1, b""))))
    api_version, kind = (_bytes(type_meta.get(number, b"")).decode() for number in (1, 2))
    if kind not in _MESSAGES:
        raise Unreadable(f"{kind} is not read as protobuf here: send JSON")
    return {"apiVersion": api_version, "kind": kind, **_message(_bytes(envelope.get(2, b"")), kind)}


def _message(data: bytes, name: str) -> dict[str, Any]:
    fields = _MESSAGES[name]
    result: dict[str, Any] = {}
    for number, raw in _wire(data):
        if number not in fields:
            raise Unreadable(f"field {number} of {name} is not read as protobuf here: send JSON")
        field = fields[number]
        if field.keyed:
            entry = dict(_wire(_bytes(raw)))
            key = _bytes(entry.get(1, b"")).decode()
            result.setdefault(field.name, {})[key] = _value(entry.get(2, b""), field.type)
        elif field.many:
            result.setdefault(field.name, []).append(_value(raw, field.type))
        else:
            value = _value(raw, field.type)
            if value or field.pointer:
                result[field.name] = value
    return result


def _value(raw: int | bytes, type: str) -> Any:
    if type == "int":
        return _int(raw)
    if type == "bool":
        return bool(_int(raw))
    data = _bytes(raw)
    if type == "string":
        return data.decode()
    if type == "bytes":
        return base64.b64encode(data).decode()
    if type == "time":
        seconds = dict(_wire(data)).get(1)
        return datetime.fromtimestamp(_int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
    if type == "intOrString":
        parts = dict(_wire(data))
        return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _int(parts.get(2, 0))
    return _message(data, type)


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value): a number, or the bytes of anything longer."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
        elif wire == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise Unreadable("the message ends too early")
            yield number, data[place : place + length]
            place += length
        else:
            raise Unreadable(f"wire type {wire} is not used by Kubernetes")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise Unreadable("the message ends too early")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise Unreadable("a number is too long")


def _int(raw: int | bytes) -> int:
    if isinstance(raw, bytes):
        raise Unreadable("a number was expected")
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _bytes(raw: int | bytes) -> bytes:
    if isinstance(raw, int):
        raise Unreadable("text was expected")
    return raw
