import json
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.types import Message, Receive, Scope, Send

from deployments.gate import tokens
from deployments.gate.gate import Gate
from deployments.gate.metrics import GateMetrics
from deployments.gate.middleware import GateMiddleware
from kaito_ray.api.workspace import Limits


class Passed(Exception):
    """The application was reached."""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    raise Passed


async def never() -> Message:
    raise AssertionError("the body is not the gate's to read")


def gate(*, keys_required: bool = True, **limits: int) -> Gate:
    made = Gate(batch=10)
    made.configure(keys_required=keys_required, limits=Limits(**limits))
    made.accept({"alice": b"sk-alice"})
    return made


async def asked(
    of: Gate, path: str = "/v1/completions", *, method: str = "POST", kind: str = "http", **headers: str
) -> list[Message]:
    """Return what the gate answered by itself."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "method": method, "headers": raw}
    await GateMiddleware(application, gate=of)(scope, never, send)
    return sent


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer sk-alice"}, {"authorization": "bearer  sk-alice"}, {"x_api_key": "sk-alice"}],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_known_key_passes(headers: dict[str, str], method: str) -> None:
    with pytest.raises(Passed):
        await asked(gate(), method=method, **headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-alic"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic sk-alice"},
        {"authorization": "sk-alice"},
        {"x_api_key": ""},
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/chat", "/docs", "/adapters", "/health/", "/metrics/x", "/"])
async def test_whoever_has_none_is_told_so(headers: dict[str, str], path: str) -> None:
    start, body = await asked(gate(), path, **headers)
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert "sk-" not in error["message"]


@pytest.mark.parametrize("path", ["/health", "/metrics"])
async def test_probes_and_prometheus_need_no_key(path: str) -> None:
    with pytest.raises(Passed):
        await asked(gate(), path, method="GET")


async def test_a_socket_without_a_key_is_closed() -> None:
    (close,) = await asked(gate(), "/v1/realtime", kind="websocket")
    assert (close["type"], close["code"]) == ("websocket.close", 1008)


async def test_past_the_limit_it_is_said_when_to_come_again() -> None:
    one = gate(keys_required=False, requests_per_minute=1)
    with pytest.raises(Passed):
        await asked(one)
    start, body = await asked(one)
    assert start["status"] == 429
    assert 1 <= int(dict(start["headers"])[b"retry-after"]) <= 60
    error = json.loads(body["body"])["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    with pytest.raises(Passed):
        await asked(one, "/v1/models", method="GET")


async def test_a_request_that_fails_leaves_the_queue() -> None:
    one = gate(keys_required=False)
    with pytest.raises(Passed):
        await asked(one)
    assert one.in_flight == 0


@dataclass
class Sequence:
    """As vLLM's `RequestState`."""

    prompt_len: int
    made: int
    request_id: str = "0"

    @property
    def detokenizer(self) -> "Sequence":
        return self

    def num_output_tokens(self) -> int:
        return self.made


class Processor:
    """As vLLM's `OutputProcessor`."""

    def __init__(self) -> None:
        self.request_states: dict[str, Sequence] = {}

    def add_request(self, request: Any, prompt: Any, parent: Any = None, index: int = 0, queue: Any = None) -> None:
        self.request_states[request.request_id] = request


async def test_tokens_of_a_request_are_its_sequences() -> None:
    processor = Processor()
    tokens.count(processor)

    async def engine(scope: Scope, receive: Receive, send: Send) -> None:
        processor.add_request(Sequence(7, 3), None)
        processor.add_request(Sequence(7, 4), None, object(), 1)

    one = gate()
    scope = {"type": "http", "path": "/", "method": "POST", "headers": [(b"authorization", b"Bearer sk-alice")]}
    await GateMiddleware(engine, gate=one)(scope, never, never)  # type: ignore[arg-type] # nothing is sent
    processor.add_request(Sequence(1, 1), None)  # nobody's
    (alice,) = one.accounts()
    assert (alice.prompt_tokens, alice.completion_tokens) == (7, 7)


async def test_metrics_have_the_names_of_keys_and_no_key() -> None:
    one = gate(requests_per_minute=1)
    with pytest.raises(Passed):
        await asked(one, authorization="Bearer sk-alice")
    await asked(one, authorization="Bearer sk-alice")
    await asked(one)
    registry = CollectorRegistry()
    registry.register(GateMetrics(one))
    text = generate_latest(registry).decode()
    assert 'kaito_ray_requests_total{key="alice"} 1.0' in text
    assert 'kaito_ray_refused_total{key="alice",limit="requestsPerMinute"} 1.0' in text
    assert "kaito_ray_unauthorized_total 1.0" in text
    assert "sk-alice" not in text
