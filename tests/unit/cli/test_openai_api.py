from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from kaito_ray.cli.openai_api import EndpointUnavailable, OpenAIApi, RequestRefused

Handler = Callable[[httpx.Request], httpx.Response]


def api(handler: Handler, key: str | None = None) -> OpenAIApi:
    return OpenAIApi("http://model", api_key=key, transport=httpx.MockTransport(handler))


def events(*bodies: object) -> str:
    lines = [f"data: {json.dumps(body)}\n\n" for body in bodies]
    return "".join(lines)


def delta(text: str | None) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}}]}


def test_models_are_listed_in_the_servers_order() -> None:
    found = api(lambda request: httpx.Response(200, json={"data": [{"id": "base"}, {"id": "poet"}]})).models()
    assert found == ["base", "poet"]


def test_the_key_is_sent_as_bearer_token() -> None:
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"data": []})

    api(handler, "secret").models()
    api(handler).models()
    assert seen == ["Bearer secret", None]


def test_a_stream_yields_text_and_skips_everything_else() -> None:
    body = ": ping\n\n" + events(delta(None), delta("Pa"), {"choices": []}, delta("ris")) + "data: [DONE]\n\n"

    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["stream"] is True
        return httpx.Response(200, text=body)

    assert list(api(handler).stream({"model": "base"})) == ["Pa", "ris"]


def test_an_error_in_a_stream_ends_it_with_the_servers_words() -> None:
    body = events(delta("Pa"), {"error": {"message": "engine died"}})
    pieces = api(lambda request: httpx.Response(200, text=body)).stream({})
    assert next(pieces) == "Pa"
    with pytest.raises(EndpointUnavailable, match="broke off: engine died"):
        next(pieces)


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        pytest.param(
            httpx.Response(400, json={"error": {"message": "temperature: too hot"}}),
            RequestRefused,
            "/v1/chat/completions answered 400: temperature: too hot",
            id="OpenAI's shape",
        ),
        pytest.param(httpx.Response(422, json={"detail": "bad"}), RequestRefused, "422: bad", id="FastAPI's shape"),
        pytest.param(
            httpx.Response(401, json={"error": "no key"}), RequestRefused, "set KAITO_RAY_API_KEY", id="a key is wanted"
        ),
        pytest.param(
            httpx.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after": "7"}),
            EndpointUnavailable,
            "try again in 7 s",
            id="too many",
        ),
        pytest.param(httpx.Response(503, text="no replica"), EndpointUnavailable, "503: no replica", id="plain text"),
        pytest.param(httpx.Response(500), EndpointUnavailable, "500: Internal Server Error", id="no body at all"),
    ],
)
def test_a_refusal_keeps_the_servers_words(response: httpx.Response, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        api(lambda request: response).complete({})
    with pytest.raises(error, match=words):
        list(api(lambda request: response).stream({}))


def test_nobody_there_is_told_with_the_address() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(EndpointUnavailable, match=r"http://model does not answer \(refused\)"):
        api(handler).models()
    with pytest.raises(EndpointUnavailable, match="http://model does not answer"):
        list(api(handler).stream({}))
