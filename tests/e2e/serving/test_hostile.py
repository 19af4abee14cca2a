"""Whatever reaches the serving port: no 5xx, words in the client's shape, bounded memory, and nobody else waits for it."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.body import LIMIT_BYTES
from kaito_ray.local import processes
from kaito_ray.local.ports import LOOPBACK
from tests.e2e.serving.conftest import CONTEXT_TOKENS, PRESET
from tests.e2e.serving.serve import CLIENT_TIMEOUT_S, Served

pytestmark = pytest.mark.engine

OPENAI = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize", "/detokenize"]
EVERYWHERE = [*OPENAI, "/chat"]
HELLO = [{"role": "user", "content": "Hi"}]
CALM = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "name", "image_url"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("messages", "prompt", "input", "tokens", "stop", "logit_bias", "top_p", "top_k", "n", "best_of", "seed"),
        *("tools", "tool_choice", "response_format", "structured_outputs", "stream", "stream_options", "logprobs"),
        *("temperature", "min_tokens", "stop_token_ids", "allowed_token_ids", "bad_words", "echo", "suffix", "user"),
        *("generate_kwargs", "chat_template_kwargs", "truncate_prompt_tokens", "priority", "vllm_xargs", "reasoning"),
    ]
)
BODIES = st.dictionaries(FIELDS, TREES, max_size=4)


def refusal(response: httpx.Response) -> str:
    """The words of a refusal, in KAITO's shape or OpenAI's."""
    body = response.json()
    if response.request.url.path == "/chat" and "detail" in body:
        words: str = body["detail"]
    else:
        assert body["error"].keys() >= {"message", "type", "param", "code"}
        words = body["error"]["message"]
    assert words
    return words


def sane(response: httpx.Response) -> None:
    assert response.status_code < 500, f"{response.request.content!r}: {response.text}"
    if response.status_code >= 400:
        refusal(response)


@pytest.mark.parametrize("path", EVERYWHERE)
@CALM
@given(body=BODIES)
def test_any_body_gets_an_answer_or_a_refusal(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    needed: dict[str, Any] = {
        "/chat": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi"},
        "/detokenize": {"tokens": [1]},
    }.get(path, {"messages": HELLO} if "chat" in path else {"prompt": "Hi"})
    most = {"generate_kwargs": {"max_new_tokens": 1}} if path == "/chat" else {"model": PRESET, "max_tokens": 1}
    if path == "/v1/responses":
        most = {"model": PRESET, "max_output_tokens": 1}
    sane(http.post(path, json={**needed, **most, **body}))


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 10_000, id="brackets"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="10,000 levels"),
        pytest.param(b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}", id="900 levels"),
        pytest.param(b'{"prompt": "\\ud800", "max_tokens": 1}', id="half a character"),
        pytest.param(b'{"prompt": "x", "max_tokens": ' + b"9" * 5_000 + b"}", id="a long number"),
    ],
)
def test_what_parsers_trip_over_is_a_400(http: httpx.Client, path: str, content: bytes) -> None:
    response = http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422), response.text
    refusal(response)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        pytest.param(
            "/v1/chat/completions", {"messages": HELLO, "max_tokens": 0}, "max_tokens", id="chat, max_tokens 0"
        ),
        pytest.param("/v1/completions", {"prompt": "Hi", "max_tokens": 0}, "max_tokens", id="max_tokens 0"),
        pytest.param("/v1/completions", {"prompt": "Hi", "max_tokens": -1}, "max_tokens", id="max_tokens -1"),
        pytest.param("/chat", {"prompt": "Hi", "generate_kwargs": {"max_new_tokens": 0}}, "max_new_tokens", id="/chat"),
        pytest.param(
            "/v1/completions",
            {"prompt": "word " * (CONTEXT_TOKENS + 10), "max_tokens": 1},
            str(CONTEXT_TOKENS),
            id="a prompt longer than the context",
        ),
        pytest.param(
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "word " * (CONTEXT_TOKENS + 10)}]},
            str(CONTEXT_TOKENS),
            id="a conversation longer than the context",
        ),
        pytest.param(
            "/chat",
            {"prompt": "word " * (CONTEXT_TOKENS + 10), "generate_kwargs": {"max_new_tokens": 1}},
            str(CONTEXT_TOKENS),
            id="/chat, longer than the context",
        ),
    ],
)
def test_what_cannot_be_generated_is_refused_by_name(
    http: httpx.Client, path: str, body: dict[str, Any], words: str
) -> None:
    response = http.post(path, json=body if path == "/chat" else {"model": PRESET, **body})
    assert response.status_code == 400, response.text
    assert words in refusal(response)


def memory_bytes(served: Served) -> int:
    """What every process of the cluster holds, HAProxy and replica included."""
    total = 0
    for process in served.processes():
        with suppress(psutil.Error):
            total += psutil.Process(process.pid).memory_info().rss
    return total


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks without end"])
def test_50_megabytes_are_refused_quickly_and_not_kept(served: Served, http: httpx.Client, announced: bool) -> None:
    piece = b"x" * 2**20

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield piece

    before, began = memory_bytes(served), time.monotonic()
    headers = {"content-length": str(50 * 2**20)} if announced else {}
    status = early_status(served, pieces(), headers)
    assert status == 413
    assert time.monotonic() - began < 20
    assert memory_bytes(served) - before < 4 * LIMIT_BYTES
    assert http.get("/health").status_code == 200


def early_status(served: Served, pieces: Iterator[bytes], headers: dict[str, str]) -> int:
    """Send until the server answers, as a client does that listens while it sends."""
    with socket.create_connection((LOOPBACK, served.head.ports.serve), timeout=60) as connection:
        lines = {"Host": "x", "Content-Type": "application/json", **(headers or {"Transfer-Encoding": "chunked"})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.sendall(f"POST /v1/completions HTTP/1.1\r\n{head}\r\n".encode())
        try:
            for piece in pieces:
                connection.sendall(piece if headers else b"%x\r\n%b\r\n" % (len(piece), piece))
        except OSError:
            pass  # the server closed its side; the answer is there already
        found = re.match(rb"HTTP/1\.1 (\d+)", connection.recv(4096))
        assert found
        return int(found[1])


@contextmanager
def dawdlers(served: Served, start: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Clients that send `start` and then hardly anything."""
    connections = [socket.create_connection((LOOPBACK, served.head.ports.serve), timeout=60) for _ in range(count)]
    try:
        for connection in connections:
            connection.sendall(start)
        yield connections
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="says nothing"),
        pytest.param(b"POST /chat HTTP/1.1\r\nHost: x\r\nX-Slow: ", id="stops in a header"),
        pytest.param(
            b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
            id="stops in the body",
        ),
    ],
)
def test_500_clients_that_dawdle_starve_nobody(served: Served, http: httpx.Client, start: bytes) -> None:
    body = {"prompt": "Hi", "generate_kwargs": {"max_new_tokens": 1}}
    with dawdlers(served, start, 500):
        for _ in range(3):
            began = time.monotonic()
            assert http.post("/chat", json=body).status_code == 200
            assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "start", [pytest.param(b"", id="says nothing"), pytest.param(b"POST /chat HTTP/1.1\r\nX-Slow: ", id="in a header")]
)
def test_who_stops_talking_is_hung_up_on(served: Served, start: bytes) -> None:
    with dawdlers(served, start, 1) as (connection,):
        began = time.monotonic()
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert connection.recv(4096) == b""
        assert CLIENT_TIMEOUT_S - 1 < time.monotonic() - began < 3 * CLIENT_TIMEOUT_S


def test_who_waits_for_an_answer_is_not(served: Served, http: httpx.Client) -> None:
    (engine,) = [psutil.Process(p.pid) for p in served.processes() if "EngineCore" in processes.command(p)]
    engine.suspend()
    Timer(1.5 * CLIENT_TIMEOUT_S, engine.resume).start()
    body = {"model": PRESET, "prompt": "One two", "max_tokens": 1}
    response = http.post("/v1/completions", json=body)
    assert response.status_code == 200
    assert response.elapsed.total_seconds() > CLIENT_TIMEOUT_S


def test_a_client_that_leaves_amid_a_stream_stops_the_generation(http: httpx.Client) -> None:
    body = {
        "model": PRESET,
        "prompt": "One two",
        "max_tokens": CONTEXT_TOKENS - 100,
        "stream": True,
        "ignore_eos": True,
    }
    with http.stream("POST", "/v1/completions", json=body) as response:
        first = next(line for line in response.iter_lines() if line)
        assert json.loads(first.removeprefix("data: "))["choices"]
    deadline = time.monotonic() + 30
    while (running := _running(http)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running == 0


def _running(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))
