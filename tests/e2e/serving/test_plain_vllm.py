"""Route by route, our answers have the shape of plain vLLM's on the same weights."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaito_ray.local.ports import LOOPBACK, choose, listening
from tests.e2e.serving import routes
from tests.e2e.serving.conftest import CONTEXT_TOKENS, PRESET

pytestmark = pytest.mark.engine

OURS = {"/chat", "/adapters", "/startup", "/v1/models/{model}"}
HELLO = [{"role": "user", "content": "Say hello."}]
GREEDY = {"model": PRESET, "max_tokens": 4, "temperature": 0}

REQUESTS = [
    pytest.param("GET", "/v1/models", None, id="models"),
    pytest.param("GET", "/version", None, id="version"),
    pytest.param("GET", "/load", None, id="load"),
    pytest.param("GET", "/ping", None, id="ping"),
    pytest.param("POST", "/v1/chat/completions", {**GREEDY, "messages": HELLO}, id="chat"),
    pytest.param("POST", "/v1/chat/completions", {**GREEDY, "messages": HELLO, "logprobs": True}, id="chat logprobs"),
    pytest.param("POST", "/v1/chat/completions", {**GREEDY, "messages": HELLO, "stream": True}, id="chat stream"),
    pytest.param("POST", "/v1/completions", {**GREEDY, "prompt": "One,"}, id="completions"),
    pytest.param("POST", "/v1/completions", {**GREEDY, "prompt": "One,", "stream": True}, id="completions stream"),
    pytest.param("POST", "/v1/responses", {"model": PRESET, "input": "Hi", "max_output_tokens": 4}, id="responses"),
    pytest.param("POST", "/v1/messages", {**GREEDY, "messages": HELLO}, id="messages"),
    pytest.param("POST", "/v1/messages/count_tokens", {"model": PRESET, "messages": HELLO}, id="count tokens"),
    pytest.param("POST", "/v1/chat/completions/render", {**GREEDY, "messages": HELLO}, id="render"),
    pytest.param("POST", "/tokenize", {"model": PRESET, "prompt": "One, two"}, id="tokenize"),
    pytest.param("POST", "/detokenize", {"model": PRESET, "tokens": [1, 2]}, id="detokenize"),
    pytest.param("POST", "/v1/completions", {"model": "gpt-4", "prompt": "x"}, id="unknown model"),
    pytest.param("POST", "/v1/chat/completions", {**GREEDY, "messages": HELLO, "top_p": 9}, id="bad value"),
    pytest.param("POST", "/v1/chat/completions", {"model": PRESET}, id="missing field"),
    pytest.param("POST", "/v1/nowhere", {}, id="unknown route"),
    pytest.param("GET", "/v1/completions", None, id="wrong method"),
]


@pytest.fixture(scope="module")
def plain(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    port = choose("plain-vllm", (), busy=listening()).serve
    log = tmp_path_factory.mktemp("plain") / "log"
    options = {
        "model": weights,
        "served-model-name": PRESET,
        "host": LOOPBACK,
        "port": port,
        "dtype": "bfloat16",
        "max-model-len": CONTEXT_TOKENS,
        "kv-cache-memory-bytes": 2**28,
        "tool-call-parser": "hermes",
    }
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--enforce-eager",
        "--enable-auto-tool-choice",
    ]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=120) as client:
            _wait(client, process, log)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        try:
            if client.get("/health").is_success:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.25)
    raise AssertionError(log.read_text()[-3000:])


def shape(value: Any) -> Any:
    """Keys and types, without values; numbers are one type, a list is the set of its elements' shapes."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(part), sort_keys=True) for part in value})
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


def answered(client: httpx.Client, method: str, path: str, body: Any) -> tuple[int, str, Any]:
    """Status, media type and shape; of a stream, the shapes of its events in order, repetitions left out."""
    response = client.request(method, path, json=body)
    media = response.headers.get("content-type", "").partition(";")[0]
    if media != "text/event-stream":
        return response.status_code, media, shape(response.json()) if response.content else None
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    shapes = [event if event == "[DONE]" else json.dumps(shape(json.loads(event)), sort_keys=True) for event in events]
    return response.status_code, media, list(dict.fromkeys(shapes))


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_the_same_request_gets_the_same_shape(
    http: httpx.Client, plain: httpx.Client, method: str, path: str, body: Any
) -> None:
    assert answered(http, method, path, body) == answered(plain, method, path, body)


def test_every_route_of_vllm_is_there_and_ours_are_added(http: httpx.Client, plain: httpx.Client) -> None:
    ours, vllms = (client.get("/openapi.json").json()["paths"] for client in (http, plain))
    assert ours.keys() == vllms.keys() | OURS
    assert {path: ours[path].keys() for path in vllms} == {path: vllms[path].keys() for path in vllms}


def test_the_page_lists_every_route_of_a_text_model(http: httpx.Client) -> None:
    assert routes.served(http) == routes.documented("text")
