"""The few calls that the command line makes to a serving Workspace, over HTTP.

Plain httpx: an OpenAI client library would be a heavy import for three requests. An answer that is not one becomes an
error with the server's own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaito_ray.errors import KaitoRayError, TransientError, UserError

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 600.0
"""A long answer on a CPU takes minutes; without streaming nothing arrives before its end."""


class EndpointUnavailable(TransientError):
    """Nothing answers at the endpoint, or it failed."""

    reason = "EndpointUnavailable"


class RequestRefused(UserError):
    """The server refused the request; the message holds its words."""

    reason = "RequestRefused"


@dataclass
class OpenAIApi:
    """A Workspace's endpoint: `base_url` without `/v1`, and the key that is sent as bearer token."""

    base_url: str
    api_key: str | None = None
    transport: httpx.BaseTransport | None = None
    """For tests; None means the network."""
    _client: httpx.Client = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import httpx

        self._client = httpx.Client(
            base_url=self.base_url,
            headers={"authorization": f"Bearer {self.api_key}"} if self.api_key else {},
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            transport=self.transport,
        )

    def models(self) -> list[str]:
        """Return the names that `model` may take: the base model first, then its adapters."""
        return [str(model["id"]) for model in self._json("GET", "/v1/models")["data"]]

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a chat completion request as the server gave it."""
        return self._json("POST", "/v1/chat/completions", {**request, "stream": False})

    def stream(self, request: Mapping[str, Any]) -> Iterator[str]:
        """Yield the pieces of the answer's text as they arrive."""
        import httpx

        body = {**request, "stream": True}
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.is_error:
                    response.read()
                    raise _refusal(response)
                yield from _text_of(response.iter_lines())
        except httpx.TransportError as error:
            raise self._unavailable(error) from error

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON answer of any other route, for example `/chat`."""
        return self._json("POST", path, body)

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        import httpx

        try:
            response = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        if response.is_error:
            raise _refusal(response)
        answer: dict[str, Any] = response.json()
        return answer

    def _unavailable(self, error: Exception) -> EndpointUnavailable:
        return EndpointUnavailable(
            f"{self.base_url} does not answer ({str(error) or type(error).__name__}); "
            "`kaito-ray status` says whether the Workspace still serves"
        )


def _text_of(lines: Iterator[str]) -> Iterator[str]:
    """Yield the text in a stream of server-sent events; an error event ends it."""
    for line in lines:
        if not line.startswith("data:") or (data := line.removeprefix("data:").strip()) == "[DONE]":
            continue
        event = json.loads(data)
        if "error" in event:
            raise EndpointUnavailable(f"the answer broke off: {_words(event)}")
        for choice in event.get("choices", ()):
            if text := choice.get("delta", {}).get("content"):
                yield text


def _refusal(response: httpx.Response) -> KaitoRayError:
    """Return the error that a response of 400 or more means."""
    try:
        words = _words(response.json())
    except ValueError:
        words = response.text.strip()[:300] or response.reason_phrase
    said = f"{response.request.url.path} answered {response.status_code}: {words}"
    if response.status_code == 401:
        return RequestRefused(f"{said}; this Workspace wants an API key: set KAITO_RAY_API_KEY")
    if response.status_code == 429:
        wait = response.headers.get("retry-after")
        return EndpointUnavailable(f"{said}; try again{f' in {wait} s' if wait else ' later'}")
    if response.is_server_error:
        return EndpointUnavailable(f"{said}; `kaito-ray logs` shows why")
    return RequestRefused(said)


def _words(body: Any) -> str:
    """Return the message in an error body of OpenAI's shape, or of FastAPI's."""
    if not isinstance(body, dict):
        return str(body)
    error = body.get("error", body)
    return str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
