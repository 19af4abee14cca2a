"""The real client, with the network taken away: which request it makes, and what it makes of the answer."""

import json
from typing import Any, ClassVar

import aiohttp
import pytest

from kaito_ray.errors import ApiRefused, ApiUnavailable, Conflict
from kaito_ray.kube.client import KubernetesCluster, path
from kaito_ray.kube.cluster import CONFIG_MAPS, DEPLOYMENTS, NODES, RAY_SERVICES, SECRETS

Answer = tuple[int, Any]


class Scripted(KubernetesCluster):
    """Answers requests from a list, and remembers them."""

    def __init__(self, *answers: Answer | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    async def _connected(self) -> Any:
        return self

    async def param_serialize(self, method: str, where: str, *, query_params: list[Any], auth_settings: Any) -> Any:
        assert auth_settings == ["BearerToken"]
        self.query = dict(query_params)
        return method, where, {}, None, None

    async def call_api(self, method: str, url: str, headers: Any, body: Any, *, _request_timeout: Any) -> Any:
        self.asked.append((method, url, self.query, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return type("Sent", (), {"response": Response(*answer)})


class Response:
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, status: int, body: Any) -> None:
        self.status, self._body = status, body

    async def read(self) -> bytes:
        return self._body if isinstance(self._body, bytes) else json.dumps(self._body).encode()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((SECRETS, "a", "s"), "/api/v1/namespaces/a/secrets/s"),
        ((SECRETS,), "/api/v1/secrets"),
        ((RAY_SERVICES, "a"), "/apis/ray.io/v1/namespaces/a/rayservices"),
        ((NODES, None, "n"), "/api/v1/nodes/n"),
        ((SECRETS, "a", "../x"), "/api/v1/namespaces/a/secrets/..%2Fx"),
    ],
)
def test_path(arguments: Any, expected: str) -> None:
    assert path(*arguments) == expected


async def test_get_returns_none_for_404() -> None:
    assert await Scripted((404, {"message": "no"})).get(SECRETS, "s", "a") is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((409, {"message": "exists"}), Conflict),
        ((401, {}), ApiUnavailable),
        ((429, {}), ApiUnavailable),
        ((503, b"<html>"), ApiUnavailable),
        (ConnectionResetError("reset"), ApiUnavailable),
        (TimeoutError(), ApiUnavailable),
        ((403, {"message": "forbidden"}), ApiRefused),
        ((422, {"message": "spec.x: invalid"}), ApiRefused),
    ],
)
async def test_errors_are_the_protocols(answer: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Scripted(answer).create(SECRETS, {"metadata": {"name": "s", "namespace": "a"}})


async def test_the_servers_own_words_are_kept() -> None:
    with pytest.raises(ApiRefused, match=r"spec\.x: must be set"):
        await Scripted((422, {"message": "spec.x: must be set"})).create(SECRETS, {"metadata": {"name": "s"}})


async def test_a_kind_without_a_crd_is_named() -> None:
    with pytest.raises(ApiRefused, match=r"rayservices\.ray\.io is not known .* CRD"):
        await Scripted((404, {})).create(RAY_SERVICES, {"metadata": {"name": "s", "namespace": "a"}})


@pytest.mark.parametrize("failure", [(500, {}), (503, b"<html>"), (429, {}), aiohttp.ServerDisconnectedError()])
async def test_a_read_that_fails_is_repeated_and_a_write_is_not(failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kaito_ray.kube.client._READ_AGAIN_AFTER_S", (0.0, 0.0))
    read = Scripted(failure, failure, (200, {"metadata": {}}))
    assert await read.get(SECRETS, "s", "a") == {"metadata": {}}
    read = Scripted(failure, failure, failure)
    with pytest.raises(ApiUnavailable):
        await read.get(SECRETS, "s", "a")
    written = Scripted(failure)
    with pytest.raises(ApiUnavailable):
        await written.create(SECRETS, {"metadata": {"name": "s"}})


async def test_replacing_what_went_away_is_a_conflict() -> None:
    with pytest.raises(Conflict):
        await Scripted((404, {})).replace(SECRETS, {"metadata": {"name": "s", "namespace": "a"}})


@pytest.mark.parametrize("status", [200, 404, 409])
async def test_deleting_what_is_gone_is_no_error(status: int) -> None:
    cluster = Scripted((status, {}))
    await cluster.delete(SECRETS, "s", "a", uid="u")
    method, where, _, body = cluster.asked[0]
    assert (method, where) == ("DELETE", "/api/v1/namespaces/a/secrets/s")
    assert body["preconditions"] == {"uid": "u"}


async def test_list_follows_pages_and_names_the_kind_of_each_item() -> None:
    cluster = Scripted(
        (200, {"metadata": {"resourceVersion": "1", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}),
        (200, {"metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "b"}}]}),
    )
    found = await cluster.list(CONFIG_MAPS, "n", {"b": "2", "a": "1"})
    assert [(f["kind"], f["metadata"]["name"]) for f in found] == [("ConfigMap", "a"), ("ConfigMap", "b")]
    assert cluster.asked[0][2] == {"limit": "500", "labelSelector": "a=1,b=2"}
    assert cluster.asked[1][2]["continue"] == "more"


async def test_a_list_that_expires_between_pages_starts_again() -> None:
    page = {"metadata": {"resourceVersion": "1", "continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    last = {"metadata": {"resourceVersion": "2"}, "items": [{"metadata": {"name": "b"}}]}
    cluster = Scripted((200, page), (410, {}), (200, last))
    assert [f["metadata"]["name"] for f in await cluster.list(CONFIG_MAPS)] == ["b"]


async def test_listing_an_unknown_kind_is_empty() -> None:
    assert await Scripted((404, {})).list(RAY_SERVICES) == []


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ((404, {}), False),
        ((200, {"resources": [{"name": "rayclusters"}]}), False),
        ((200, {"resources": [{"name": "rayservices"}, {"name": "rayservices/status"}]}), True),
    ],
)
async def test_a_kind_is_known_when_discovery_lists_it(answer: Any, known: bool) -> None:
    cluster = Scripted(answer)
    assert await cluster.knows(RAY_SERVICES) is known
    assert cluster.asked[0][1] == "/apis/ray.io/v1"


class Streamed(Response):
    """A watch: these lines, the last one perhaps cut off."""

    def __init__(self, *lines: bytes) -> None:
        super().__init__(200, {})
        self._lines = list(lines)
        self.content = self

    async def readuntil(self, separator: bytes, *, max_size: int) -> bytes:
        assert max_size > 2**21, "an object may have more than a megabyte"
        return self._lines.pop(0) if self._lines else b""

    def close(self) -> None:
        self._lines = []


async def test_a_watch_that_is_cut_off_in_the_middle_of_an_event_is_a_lost_connection() -> None:
    cluster = Scripted()

    async def call_api(*_: Any, **__: Any) -> Any:
        return type("Sent", (), {"response": Streamed(b'{"type": "ADDED", "object": {}}\n', b'{"type": "MOD')})

    cluster.call_api = call_api  # type: ignore[method-assign]
    stream = cluster._stream(SECRETS, "a", "1")
    assert (await anext(stream))["type"] == "ADDED"
    with pytest.raises(ApiUnavailable, match="in the middle of an event"):
        await anext(stream)


async def test_a_server_that_asks_to_be_left_alone_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    cluster = Scripted((429, {}), (200, {"metadata": {}}))
    monkeypatch.setattr("kaito_ray.kube.client.asyncio.sleep", sleep)
    monkeypatch.setattr(Response, "headers", {"Retry-After": "7"}, raising=False)
    with pytest.raises(ApiUnavailable):
        await cluster.create(SECRETS, {"metadata": {"name": "s"}})
    await cluster.create(SECRETS, {"metadata": {"name": "s"}})
    assert waits[0] <= 0
    assert 6 < waits[1] <= 7


async def test_what_a_person_wrote_is_checked_for_fields_that_nobody_knows() -> None:
    words = 'strict decoding error: unknown field "spec.a", unknown field "spec.b"'
    cluster = Scripted((400, {"message": words}), (201, {}))
    with pytest.raises(ApiRefused, match=r"^a Deployment has no field spec\.a, spec\.b; correct or remove it$"):
        await cluster.create(DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "a"}})
    await cluster.create(SECRETS, {"metadata": {"name": "s", "namespace": "a"}})
    assert [asked[2] for asked in cluster.asked] == [{"fieldValidation": "Strict"}, {}]
