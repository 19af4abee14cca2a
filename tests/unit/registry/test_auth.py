from __future__ import annotations

import base64
from urllib.parse import parse_qs

import httpx
import pytest

from kaito_ray.errors import RegistryUnavailable
from kaito_ray.registry.auth import Challenge, RegistryAuth, parse_challenge, token_request
from kaito_ray.registry.keyring import Credential

BLOB = "https://r.io/v2/team/a/blobs/x"
BEARER = 'Bearer realm="https://auth.r.io/token",service="r.io",scope="repository:team/a:pull"'
GOOD, BAD = Credential("good", "p"), Credential("bad", "p")


class TokenRegistry:
    """A registry that wants a token, and the service that gives it to user `good`."""

    def __init__(self, *, anonymous: bool = False, challenge: str = BEARER) -> None:
        self.anonymous, self.challenge = anonymous, challenge
        self.requests: list[httpx.Request] = []
        self.valid = {"t-good", "t-refreshed", "given"}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host == "auth.r.io":
            return self.token(request)
        sent = request.headers.get("Authorization", "")
        if sent.removeprefix("Bearer ") in self.valid:
            return httpx.Response(200, text="content")
        return httpx.Response(401, headers={"WWW-Authenticate": self.challenge})

    def token(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            form = parse_qs(request.content.decode())
            good = form["grant_type"] == ["refresh_token"] and form["refresh_token"] == ["refresh"]
            return httpx.Response(200, json={"access_token": "t-refreshed"}) if good else httpx.Response(401)
        if "Authorization" not in request.headers:
            self.valid |= {"t-anonymous"} if self.anonymous else set()
            return httpx.Response(200, json={"token": "t-anonymous"})
        user = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")[0]
        return httpx.Response(200, json={"token": "t-good"}) if user == "good" else httpx.Response(401)

    def client(self, *credentials: Credential) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self), auth=RegistryAuth(credentials))


async def test_a_token_is_fetched_once_and_used_again() -> None:
    registry = TokenRegistry()
    async with registry.client(GOOD) as client:
        assert [(await client.get(BLOB)).status_code for _ in range(3)] == [200, 200, 200]
    asked = [request for request in registry.requests if request.url.host == "auth.r.io"]
    assert len(asked) == 1
    assert dict(asked[0].url.params) == {"service": "r.io", "scope": "repository:team/a:pull"}


async def test_credentials_are_tried_in_order() -> None:
    async with TokenRegistry().client(BAD, GOOD) as client:
        assert (await client.get(BLOB)).status_code == 200


async def test_anonymous_is_the_last_resort() -> None:
    registry = TokenRegistry(anonymous=True)
    async with registry.client(BAD) as client:
        assert (await client.get(BLOB)).status_code == 200
    assert registry.requests[-1].headers["Authorization"] == "Bearer t-anonymous"


async def test_when_nothing_opens_the_door_the_refusal_is_returned() -> None:
    async with TokenRegistry().client(BAD) as client:
        assert (await client.get(BLOB)).status_code == 401


async def test_an_identity_token_is_exchanged() -> None:
    async with TokenRegistry().client(Credential("ignored", identity_token="refresh")) as client:
        assert (await client.get(BLOB)).status_code == 200


async def test_a_registry_token_is_sent_as_it_is() -> None:
    registry = TokenRegistry()
    async with registry.client(Credential(registry_token="given")) as client:
        assert (await client.get(BLOB)).status_code == 200
    assert not [request for request in registry.requests if request.url.host == "auth.r.io"]


async def test_a_token_that_ran_out_is_renewed() -> None:
    registry = TokenRegistry()
    async with registry.client(GOOD) as client:
        await client.get(BLOB)
        registry.valid = {"t-refreshed"}
        registry.token = lambda _: httpx.Response(200, json={"token": "t-refreshed"})
        assert (await client.get(BLOB)).status_code == 200


async def test_basic_is_answered_with_basic() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") == "Basic " + base64.b64encode(b"good:p").decode():
            return httpx.Response(200)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), auth=RegistryAuth([BAD, GOOD])) as client:
        assert (await client.get(BLOB)).status_code == 200


async def test_credentials_do_not_follow_a_redirect_to_storage() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.host == "storage.io":
            return httpx.Response(403, headers={"WWW-Authenticate": BEARER})
        return httpx.Response(307, headers={"Location": "https://storage.io/x"})

    transport = httpx.MockTransport(answer)
    auth = RegistryAuth([Credential(registry_token="given")])
    async with httpx.AsyncClient(transport=transport, auth=auth, follow_redirects=True) as client:
        assert (await client.get(BLOB, headers={"Authorization": "Bearer given"})).status_code == 403
    assert [request.url.host for request in seen] == ["r.io", "storage.io"]
    assert "Authorization" not in seen[-1].headers


async def test_a_token_service_in_trouble_is_no_refusal() -> None:
    registry = TokenRegistry()
    registry.token = lambda _: httpx.Response(503)
    async with registry.client(GOOD) as client:
        with pytest.raises(RegistryUnavailable, match="503"):
            await client.get(BLOB)


@pytest.mark.parametrize("realm", ["http://auth.r.io/token", "ftp://auth.r.io/", "http://localhost.r.io/", ""])
def test_credentials_are_not_sent_in_plain(realm: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol, match="not https"):
        token_request(Challenge("bearer", realm), GOOD)


def test_a_token_service_on_loopback_may_be_plain() -> None:
    assert token_request(Challenge("bearer", "http://127.0.0.1:5001/token"), GOOD).method == "GET"


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (BEARER, Challenge("bearer", "https://auth.r.io/token", "r.io", "repository:team/a:pull")),
        ('bearer realm="x", scope="a:b:pull,push"', Challenge("bearer", "x", scope="a:b:pull,push")),
        ("Bearer realm=x", Challenge("bearer", "x")),
        ('Basic realm="My Registry"', Challenge("basic", "My Registry")),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_parse_challenge(header: str, challenge: Challenge | None) -> None:
    assert parse_challenge(header) == challenge
