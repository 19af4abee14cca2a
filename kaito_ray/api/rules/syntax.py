"""Names, labels, image references and URLs: whether a string is well formed, and safe to follow.

Each function returns what is wrong, in words that end a sentence, or None.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

_LABEL: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL: Final = re.compile(_LABEL)
_DNS_SUBDOMAIN: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
# Source: the grammar of github.com/distribution/reference, shortened.
_IMAGE: Final = re.compile(
    r"([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]+)?/)?"  # registry
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"  # repository
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"  # tag, digest
)
_HUB_MODEL: Final = re.compile(r"[A-Za-z0-9]([\w.-]{0,94}[A-Za-z0-9])?/[A-Za-z0-9]([\w.-]{0,94}[A-Za-z0-9])?", re.ASCII)
_INTERNAL_HOSTS: Final = ("localhost", "metadata.google.internal", "metadata.google", "instance-data.ec2.internal")


def dns_label(text: str) -> str | None:
    """Check an RFC 1123 label: the name of a Workspace."""
    if len(text) <= 63 and _DNS_LABEL.fullmatch(text):
        return None
    return f"{text!r} is not a DNS label; use at most 63 lower-case letters, digits and '-', no '-' at either end"


def dns_subdomain(text: str) -> str | None:
    """Check an RFC 1123 subdomain: the name of a Secret, a ConfigMap or an adapter."""
    if len(text) <= 253 and _DNS_SUBDOMAIN.fullmatch(text):
        return None
    return f"{text!r} is not a DNS name; use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"


def label(key: str, value: str) -> str | None:
    """Check a label's key and value."""
    prefix, _, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or ("/" in key and dns_subdomain(prefix)):
        return f"{key!r} is not a label key; use [prefix/]name with at most 63 letters, digits, '-', '_' and '.'"
    if value and not _LABEL_NAME.fullmatch(value):
        return f"{value!r} is not a label value; use at most 63 letters, digits, '-', '_' and '.'"
    return None


def hub_model(text: str) -> str | None:
    """Check a hub's `org/model`."""
    if len(text) <= 193 and _HUB_MODEL.fullmatch(text) and "--" not in text and ".." not in text:
        return None
    return f"{text!r} is not a model of a hub; write org/model in letters, digits, '-', '_' and '.'"


def image(text: str) -> str | None:
    """Check an OCI image reference."""
    if _IMAGE.fullmatch(text):
        return None
    return f"{text!r} is not an image reference; write registry/repository:tag, the repository in lower case"


def public_url(text: str, *, allow: Collection[str] = ()) -> str | None:
    """Check that a URL is http(s) and does not name loopback, a private network or a metadata service.

    `allow` are hosts and networks that the operator trusts all the same. This is the part that needs no network; whoever
    downloads checks again what the name resolves to.
    """
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return f"{text!r} is not a URL"
    if parts.scheme not in ("http", "https") or not host:
        return f"{text!r} is not an http(s) URL"
    if _allowed(host, allow):
        return None
    if host in _INTERNAL_HOSTS or host.endswith(".localhost") or _is_internal_address(host):
        return (
            f"{host} is not a public host; put the data where it can be downloaded from, use a volume or an image, or "
            "have it named in the operator's --data-allow"
        )
    return None


def _allowed(host: str, allow: Collection[str]) -> bool:
    if host.lower() in {entry.strip().lower() for entry in allow}:
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for entry in allow if (network := _network(entry.strip())))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _is_internal_address(host: str) -> bool:
    try:
        return not ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return False
