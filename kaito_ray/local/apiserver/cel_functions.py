"""Functions that Kubernetes adds to CEL: strings, lists, regular expressions, URLs, addresses, quantities, formats."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from kaito_ray.local.apiserver import cel, formats

_UNITS_S: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUFFIXES: Final = {
    "": Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}
_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?")


@lru_cache(maxsize=1)
def table() -> Mapping[str, Callable[..., Any]]:
    """Return every function by name; a method gets its receiver first."""
    return {
        **cel.library().stdlib.STDLIB_FUNCTIONS,
        "find": lambda text, pattern: match[0] if (match := re.search(pattern, text)) else "",
        "findAll": lambda text, pattern, limit=-1: [m[0] for m in re.finditer(pattern, text)][
            : None if limit < 0 else limit
        ],
        "isSorted": lambda values: all(a <= b for a, b in pairwise(values)),
        "indexOf": lambda values, value: values.find(value) if isinstance(values, str) else _index(values, value),
        "lastIndexOf": lambda values, value: (
            values.rfind(value)
            if isinstance(values, str)
            else len(values) - 1 - _index(values[::-1], value)
            if value in values
            else -1
        ),
        "isURL": formats.is_uri,
        "url": url,
        "getScheme": itemgetter("scheme"),
        "getHost": itemgetter("host"),
        "getHostname": itemgetter("hostname"),
        "getPort": itemgetter("port"),
        "getEscapedPath": itemgetter("path"),
        "getQuery": itemgetter("query"),
        "isIP": formats.parses(ipaddress.ip_address),
        "isCIDR": formats.is_cidr,
        "isQuantity": formats.parses(quantity),
        "quantity": lambda text: {"quantity": str(quantity(text))},
        "isGreaterThan": lambda a, b: _amount(a) > _amount(b),
        "isLessThan": lambda a, b: _amount(a) < _amount(b),
        "compareTo": lambda a, b: (_amount(a) > _amount(b)) - (_amount(a) < _amount(b)),
        "asInteger": lambda a: int(_amount(a)),
        "asApproximateFloat": lambda a: float(_amount(a)),
        "isInteger": lambda a: _amount(a) == _amount(a).to_integral_value(),
    }


def of_format(text: str, form: str) -> Any:
    """Return the value that CEL has for a string of that format.

    Raises:
        ValueError: the string does not have it.
    """
    if form == "byte":
        return base64.b64decode(text)
    if form == "duration":
        return duration(text)
    return datetime.fromisoformat(text.replace("Z", "+00:00") if form == "date-time" else f"{text}T00:00:00+00:00")


def duration(text: str) -> timedelta:
    """Parse a Go duration such as `1h30m`.

    Raises:
        ValueError: it is none.
    """
    if not formats.is_duration(text):
        raise ValueError(f"invalid duration {text!r}")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([\d.]+)([a-zµμ]+)", text))
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def quantity(text: str) -> Decimal:
    """Parse a Kubernetes quantity such as `1.5Gi` or `100m`.

    Raises:
        ValueError: it is none.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, exponent, suffix = match.groups()
    return Decimal(number) * (Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""])


def url(text: str) -> dict[str, Any]:
    """Parse a URL into the parts that rules can ask for.

    Raises:
        ValueError: it is none.
    """
    if not formats.is_uri(text):
        raise ValueError(f"URL parse error during conversion from string: {text}")
    parts = urlsplit(text)
    return {
        "scheme": parts.scheme,
        "host": parts.netloc.rpartition("@")[2],
        "hostname": parts.hostname or "",
        "port": str(parts.port or ""),
        "path": parts.path,
        "query": parse_qs(parts.query),
    }


def _amount(value: Mapping[str, str]) -> Decimal:
    return Decimal(value["quantity"])


def _index(values: list[Any], value: Any) -> int:
    return values.index(value) if value in values else -1
