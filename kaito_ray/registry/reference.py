"""Image references, as `docker pull` reads them: `[registry/]repository[:tag][@digest]`.

Grammar: https://github.com/distribution/reference. A first part without dot, colon or the name `localhost` is no
registry, so `team/adapter` is `docker.io/team/adapter`, and `adapter` is `docker.io/library/adapter`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from kaito_ray.errors import InvalidWorkspace

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_API: Final = "registry-1.docker.io"

_REGISTRY = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """One image. With both tag and digest the digest counts, as everywhere."""

    registry: str
    """Host, and port where one is written: `ghcr.io`, `127.0.0.1:5000`."""
    repository: str
    """Path below the registry, lower case."""
    tag: str | None
    """Absent only where there is a digest."""
    digest: str | None
    """`sha256:` and 64 hex digits."""

    @property
    def base_url(self) -> str:
        """Return where the registry's API is. Plain HTTP is spoken to this machine's own loopback alone."""
        host = _DOCKER_HUB_API if self.registry == DOCKER_HUB else self.registry
        scheme = "http" if is_loopback(host_without_port(host)) else "https"
        return f"{scheme}://{host}"

    @property
    def version(self) -> str:
        """Return what the registry is asked for: the digest if there is one, else the tag."""
        return self.digest or str(self.tag)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def parse(text: str, *, field: str = "image") -> Reference:
    """Return the reference that `text` means; without tag and digest it is `latest`.

    Raises:
        InvalidWorkspace: it is none, and `field` says where it was written.

    """
    name, _, digest = text.partition("@")
    if "@" in text and not _DIGEST.fullmatch(digest):
        raise InvalidWorkspace(field, f"{text!r} has a digest that is not sha256: and 64 lower-case hex digits")
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        registry, path = head.lower(), rest
    else:
        registry, path = DOCKER_HUB, name
    repository, colon, tag = path.partition(":")
    if registry in {DOCKER_HUB, "index.docker.io", _DOCKER_HUB_API}:
        registry = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REGISTRY.fullmatch(registry):
        raise InvalidWorkspace(field, f"{text!r} has no valid registry host in {registry!r}")
    if not _REPOSITORY.fullmatch(repository):
        raise InvalidWorkspace(
            field, f"{text!r} is no image reference: {repository!r} must be lower-case words joined by / . _ or -"
        )
    if colon and not _TAG.fullmatch(tag):
        raise InvalidWorkspace(field, f"{text!r} has an invalid tag {tag!r}")
    return Reference(registry, repository, tag or (None if digest else "latest"), digest or None)


def host_without_port(host: str) -> str:
    """Return the host of `host[:port]`, an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1 : host.index("]")]
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Say whether `host` (a name or address, no port) is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
