"""Registry credentials, as Kubernetes keeps them: docker config JSON, several files merged.

A mounted Secret may change at any time, so the directory is read anew for each pull. Where several entries fit an
image, the most specific is tried first, as the kubelet does it (`registry/path`, then `registry`, then `*.registry`).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

from kaito_ray.api.app_args import ACCOUNT_CREDENTIALS
from kaito_ray.registry.reference import DOCKER_HUB, Reference

logger = logging.getLogger(__name__)

_DOCKER_HUB_KEYS = {"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}


@dataclass(frozen=True)
class Credential:
    """One way to say who we are. Nothing secret shows in its repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)
    """An OAuth2 refresh token, exchanged for an access token (Azure and others)."""
    registry_token: str | None = field(default=None, repr=False)
    """An access token, sent as it is."""


@dataclass(frozen=True)
class Keyring:
    """All credentials at hand, each with the registry (and path) that it is for."""

    entries: tuple[tuple[str, Credential], ...] = ()

    @classmethod
    def read(cls, directory: Path | None) -> Self:
        """Return the credentials in every file of `directory`; none where it does not exist.

        A file that is no docker config is skipped with a warning: one bad Secret must not hide the others.
        """
        if directory is None or not directory.is_dir():
            return cls()
        # A kubelet keeps `..data` links beside the files; keys such as `.dockerconfigjson` are files to read.
        files = [p for p in directory.iterdir() if not p.name.startswith("..") and p.is_file()]
        files.sort(key=lambda path: (path.name.endswith(ACCOUNT_CREDENTIALS), path.name))
        return cls(tuple(entry for path in files for entry in _entries(path)))

    def matching(self, reference: Reference) -> tuple[Credential, ...]:
        """Return the credentials for that image, most specific first, equal ones once."""
        fitting = [(where, c) for where, c in self.entries if _fits(where, reference)]
        # sorted() is stable: equally specific entries keep the order of the files.
        by_specificity = sorted(fitting, key=lambda entry: (entry[0].startswith("*"), -len(entry[0])))
        return tuple(dict.fromkeys(credential for _, credential in by_specificity))


def _entries(path: Path) -> Iterable[tuple[str, Credential]]:
    try:
        config = json.loads(path.read_bytes())
        # The older `.dockercfg` is the inner mapping alone.
        auths = config.get("auths", config)
        return [(_normalized(key), _credential(value)) for key, value in auths.items() if isinstance(value, dict)]
    except (OSError, ValueError, AttributeError) as error:
        logger.warning("registry credentials skipped", extra={"file": path.name, "error": type(error).__name__})
        return []


def _credential(entry: Mapping[str, Any]) -> Credential:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        try:
            decoded = base64.b64decode(auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("auth is not base64 of user:password") from error
        username, _, password = decoded.partition(":")
    return Credential(
        username=username,
        password=password.rstrip("\x00"),
        identity_token=entry.get("identitytoken") or None,
        registry_token=entry.get("registrytoken") or None,
    )


def _normalized(key: str) -> str:
    """Return `host[:port][/path]` of a key that may be a URL, such as Docker's `https://index.docker.io/v1/`."""
    _, _, after_scheme = key.rpartition("://")
    host, _, path = after_scheme.partition("/")
    path = path.strip("/").removeprefix("v1").removeprefix("v2").strip("/")
    host = DOCKER_HUB if host.lower() in _DOCKER_HUB_KEYS else host.lower()
    return f"{host}/{path}" if path else host


def _fits(where: str, reference: Reference) -> bool:
    host, _, path = where.partition("/")
    if path and not f"{reference.repository}/".startswith(f"{path}/"):
        return False
    # A star stands for one label of the name, so both must have as many.
    same_depth = host.count(".") == reference.registry.count(".")
    return host == reference.registry or (same_depth and fnmatchcase(reference.registry, host))
