"""String formats that Kubernetes checks; a format that it does not know is not checked, there as here."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit


def matches(name: str, text: str) -> bool:
    """Say whether `text` has the format; unknown formats match."""
    check = _CHECKS.get(name.replace("-", "").lower())
    return check is None or check(text)


def parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    """Return a check that holds where `parse` raises nothing."""

    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _like(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def _network(text: str) -> None:
    """Parse a network; an address alone, which Python takes for one, is none."""
    if "/" not in text:
        raise ValueError(text)
    ipaddress.ip_network(text, strict=False)


def _absolute(text: str) -> None:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")):
        raise ValueError(text)


_UNIT: Final = r"(?:ns|us|µs|μs|ms|s|m|h)"

is_date_time: Final = _like(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)")
is_duration: Final = _like(rf"[-+]?(?:0|(?:\d+\.?\d*|\.\d+){_UNIT}(?:(?:\d+\.?\d*|\.\d+){_UNIT})*)")
is_uri: Final = parses(_absolute)
is_cidr: Final = parses(_network)

_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "byte": parses(lambda text: base64.b64decode(text, validate=True)),
    "date": _like(r"\d{4}-(?:0\d|1[0-2])-(?:[0-2]\d|3[01])"),
    "datetime": is_date_time,
    "duration": is_duration,
    "email": _like(r"[^@\s]+@[^@\s]+"),
    "hostname": _like(r"(?=.{1,253}$)[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?"),
    "ipv4": parses(ipaddress.IPv4Address),
    "ipv6": parses(ipaddress.IPv6Address),
    "cidr": is_cidr,
    "mac": _like(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"),
    "uri": is_uri,
    "uuid": _like(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"),
}
