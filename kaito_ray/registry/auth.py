"""How a registry wants to be convinced: Basic, or a bearer token from the service that it names.

Protocol: https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/. Credentials are tried in order,
anonymous last; the one that worked is kept for the requests that follow, and renewed when its token runs out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from kaito_ray.errors import RegistryUnavailable
from kaito_ray.registry.keyring import Credential
from kaito_ray.registry.reference import is_loopback

ANONYMOUS: Final = Credential()
_CLIENT_ID: Final = "kaito-ray"
_PARAMETER = re.compile(r'([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Challenge:
    """One `WWW-Authenticate` header."""

    scheme: str
    """`bearer` or `basic`, lower case."""
    realm: str = ""
    """Bearer: the URL of the token service."""
    service: str = ""
    """Bearer: the registry's name there."""
    scope: str = ""
    """Bearer: what the token must allow."""


class RegistryAuth(httpx.Auth):
    """Answers the challenges of one registry about one repository."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self._ways = (*credentials, ANONYMOUS)
        self._authorization: str | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request; where it is refused, find a header that opens the door and send it again."""
        if self._authorization:
            request.headers["Authorization"] = self._authorization
        response = yield request
        for credential in self._ways:
            # A 401 of a storage host that the registry redirected to is not a question to us.
            if response.status_code not in {401, 403} or response.url.host != request.url.host:
                return
            challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
            if challenge is None:
                return
            header: str | None = None
            if credential.registry_token:
                header = f"Bearer {credential.registry_token}"
            elif challenge.scheme == "basic":
                header = _basic(credential) if credential.username else None
            else:
                answer = yield token_request(challenge, credential)
                if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                    raise RegistryUnavailable(f"token service {challenge.realm} answered {answer.status_code}")
                await answer.aread()
                header = _bearer(answer)
            if header is None:
                continue
            request.headers["Authorization"] = header
            response = yield request
            if response.is_success or response.has_redirect_location:
                self._authorization = header


def parse_challenge(header: str) -> Challenge | None:
    """Return what a `WWW-Authenticate` header asks for; None where it is neither Bearer nor Basic."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() not in {"bearer", "basic"}:
        return None
    parameters = {m[1].lower(): m[2] or m[3] or "" for m in _PARAMETER.finditer(rest)}
    known = {key: parameters.get(key, "") for key in ("realm", "service", "scope")}
    return Challenge(scheme=scheme.lower(), **known)


def token_request(challenge: Challenge, credential: Credential) -> httpx.Request:
    """Return the request for an access token: OAuth2's refresh with an identity token, else GET.

    Raises:
        httpx.UnsupportedProtocol: the realm would carry the credential over plain HTTP to another machine.

    """
    realm = httpx.URL(challenge.realm)
    if realm.scheme != "https" and not (realm.scheme == "http" and is_loopback(realm.host)):
        raise httpx.UnsupportedProtocol(f"token service {challenge.realm!r} is not https; credentials were not sent")
    about = {"service": challenge.service, "scope": challenge.scope}
    about = {key: value for key, value in about.items() if value}
    if credential.identity_token:
        refresh = {"grant_type": "refresh_token", "refresh_token": credential.identity_token, "client_id": _CLIENT_ID}
        return httpx.Request("POST", realm, data={**about, **refresh})
    headers = {"Authorization": _basic(credential)} if credential.username else {}
    return httpx.Request("GET", realm.copy_merge_params(about), headers=headers)


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def _bearer(answer: httpx.Response) -> str | None:
    if not answer.is_success:
        return None
    try:
        body = answer.json()
    except ValueError:
        return None
    token = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
    return f"Bearer {token}" if token else None
