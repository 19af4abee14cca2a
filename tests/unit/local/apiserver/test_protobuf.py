"""Kubernetes' protobuf, read from bytes written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito_ray.local.apiserver.protobuf import Unreadable, decode


def text(number: int, value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    length = len(data)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2] if number < 16 else [number << 3 & 127 | 130, number >> 4]) + size + data


def number(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def envelope(kind: str, message: bytes) -> bytes:
    return b"k8s\x00" + text(1, text(1, "v1") + text(2, kind)) + text(2, message)


def test_a_secret_with_labels() -> None:
    meta = text(1, "s") + text(2, "") + text(11, text(1, "a") + text(2, "b")) + text(14, "x.dev/y")
    message = text(1, meta) + text(2, text(1, "k") + text(2, b"\x00\x01")) + text(3, "Opaque") + number(5, 0)
    assert decode(envelope("Secret", message)) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "labels": {"a": "b"}, "finalizers": ["x.dev/y"]},
        "data": {"k": "AAE="},
        "type": "Opaque",
        "immutable": False,
    }


def test_a_service_with_both_kinds_of_target() -> None:
    first = text(1, "a") + number(3, 80) + text(4, number(1, 0) + number(2, 81) + text(3, "")) + number(5, 0)
    second = text(1, "b") + number(3, 82) + text(4, number(1, 1) + number(2, 0) + text(3, "web"))
    spec = text(1, first) + text(1, second) + text(18, "127.0.0.1") + number(13, 0)
    decoded = decode(envelope("Service", text(2, spec)))
    assert decoded["spec"] == {
        "ports": [
            {"name": "a", "port": 80, "targetPort": 81},
            {"name": "b", "port": 82, "targetPort": "web"},
        ],
        "clusterIPs": ["127.0.0.1"],
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "is not Kubernetes' protobuf"),
        (envelope("Deployment", b""), "Deployment is not read as protobuf here: send JSON"),
        (envelope("Namespace", text(9, "x")), "field 9 of Namespace is not read"),
        (envelope("Namespace", b"\x0a\x05ab"), "ends too early"),
        (envelope("Namespace", bytes([1 << 3 | 5, 0, 0, 0, 0])), "wire type 5"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_never_dropped(body: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        decode(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for kind in ("Namespace", "Service", "DeleteOptions"):
        try:
            assert decode(envelope(kind, data))["kind"] == kind
        except ValueError:
            continue
