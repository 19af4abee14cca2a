"""Keys, limits and the queue, through HAProxy, while the replica serves; nothing of it restarts anything."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from kaito_ray.api import names
from kaito_ray.api.app_args import UserConfig
from kaito_ray.api.workspace import Limits
from tests.e2e.clients import running
from tests.e2e.gate.conftest import BATCH, MODEL
from tests.e2e.serving.serve import Served

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@pytest.fixture(autouse=True)
def _open_again(served: Served) -> Iterator[None]:
    yield
    served.put(UserConfig())
    served.wait()


def replica(served: Served) -> str:
    (only,) = served.application()["deployments"][names.DEPLOYMENT]["replicas"]
    return str(only["actor_id"])


def write(mounts: Path, **keys: str) -> None:
    """Make the mounted Secret hold these keys."""
    folder = mounts / "mnt" / "keys"
    for path in folder.iterdir():
        if path.name not in keys:
            path.unlink()
    for name, key in keys.items():
        (folder / name).write_text(key)


def body(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 4, "ignore_eos": True, **more}


def ask(http: httpx.Client, key: str | None = None, **more: Any) -> httpx.Response:
    return http.post("/v1/completions", json=body(**more), headers={"authorization": f"Bearer {key}"} if key else {})


def until(holds: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)


def metric(http: httpx.Client, line: str) -> float:
    found = [text.split()[-1] for text in http.get("/metrics").text.splitlines() if text.startswith(line)]
    return float(found[0]) if found else 0.0


class Load:
    """Clients that never stop, with a key that stays."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url, self._key = url, key
        self._stop = threading.Event()
        self.answers: Counter[int | str] = Counter()

    def running(self) -> AbstractContextManager[None]:
        return running(self._stop, [self._client] * 3)

    def _client(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._stop.is_set():
                try:
                    self.answers[ask(http, self._key).status_code] += 1
                except httpx.HTTPError as error:
                    self.answers[repr(error)] += 1


def test_keys_come_rotate_and_go_under_load(served: Served, http: httpx.Client, mounts: Path) -> None:
    before = replica(served)
    load = Load(served.url, "sk-stays")
    with load.running():
        write(mounts, stays="sk-stays\n", alice="sk-one")
        time.sleep(2)  # So that the replica has seen them: from then on nobody who has one may notice.
        served.put(UserConfig(keys_required=True))
        served.wait()
        until(lambda: ask(http).status_code == 401)
        assert ask(http, "sk-one").status_code == 200
        write(mounts, stays="sk-stays\n", alice="sk-two")
        until(lambda: ask(http, "sk-two").status_code == 200)
        assert ask(http, "sk-one").status_code == 401
        write(mounts)
        served.put(UserConfig())
        served.wait()
        until(lambda: ask(http).status_code == 200)
    assert set(load.answers) == {200}
    assert load.answers[200] > 10
    assert replica(served) == before


def test_without_a_key_one_is_told_so_in_the_words_of_openai(served: Served, http: httpx.Client, mounts: Path) -> None:
    write(mounts, alice="sk-alice")
    served.put(UserConfig(keys_required=True))
    served.wait()
    until(lambda: ask(http, "sk-alice").status_code == 200)
    for key in ("sk-wrong", ""):
        with (
            openai.OpenAI(base_url=f"{served.url}/v1", api_key=key or "x", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as refused,
        ):
            client.models.list()
        assert refused.value.code == "invalid_api_key"
        assert "sk-wrong" not in refused.value.message
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-alice", max_retries=0) as client:
        assert [model.id for model in client.models.list().data] == [MODEL]
    assert http.get("/v1/models", headers={"x-api-key": "sk-alice"}).status_code == 200
    closed = ("/v1/models", "/chat", "/docs", "/openapi.json", "/adapters", "/tokenize", "/nowhere", "/health/")
    assert {path: http.get(path).status_code for path in closed} == dict.fromkeys(closed, 401)
    assert {path: http.get(path).status_code for path in ("/health", "/metrics")} == {"/health": 200, "/metrics": 200}
    assert metric(http, 'kaito_ray_requests_total{key="alice"}') >= 1
    assert "sk-alice" not in http.get("/metrics").text
    assert "sk-alice" not in served.log.read_text()


def test_a_key_has_its_own_minute(served: Served, http: httpx.Client, mounts: Path) -> None:
    write(mounts, alice="sk-alice", bob="sk-bob")
    served.put(UserConfig(keys_required=True, limits=Limits(requests_per_minute=3)))
    served.wait()
    until(lambda: http.get("/v1/models", headers={"authorization": "Bearer sk-bob"}).status_code == 200)
    assert [ask(http, "sk-alice").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = ask(http, "sk-alice")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "inference.limits.requestsPerMinute is 3" in refused.json()["error"]["message"]
    assert ask(http, "sk-bob").status_code == 200


def test_tokens_are_counted_as_the_engine_made_them(served: Served, http: httpx.Client) -> None:
    def counted() -> tuple[float, float]:
        prompt, completion = (f'kaito_ray_tokens_total{{key="",kind="{kind}"}}' for kind in ("prompt", "completion"))
        return metric(http, prompt), metric(http, completion)

    served.put(UserConfig(limits=Limits(tokens_per_minute=10_000)))
    served.wait()
    before = counted()
    usage = ask(http, n=2, max_tokens=5).json()["usage"]
    with http.stream("POST", "/v1/completions", json=body(stream=True, max_tokens=7)) as stream:
        stream.read()
    after = counted()
    assert usage["completion_tokens"] == 10
    assert after[0] - before[0] == 2 * usage["prompt_tokens"]
    assert after[1] - before[1] == 10 + 7
    served.put(UserConfig(limits=Limits(tokens_per_minute=20)))
    served.wait()
    refused = ask(http)
    assert refused.status_code == 429
    assert "tokensPerMinute" in refused.json()["error"]["message"]


async def test_past_a_full_queue_requests_come_back_later_and_the_admitted_are_answered(served: Served) -> None:
    queued = 8
    served.put(UserConfig(limits=Limits(max_queued=queued)))
    served.wait()
    async with httpx.AsyncClient(base_url=served.url, timeout=120, limits=httpx.Limits(max_connections=200)) as http:
        answers = await asyncio.gather(*(http.post("/v1/completions", json=body(max_tokens=100)) for _ in range(200)))
    assert Counter(a.status_code for a in answers).keys() == {200, 429}
    refused = [a for a in answers if a.status_code == 429]
    assert {a.headers["retry-after"] for a in refused} == {"1"}
    whole = [a for a in answers if a.status_code == 200]
    assert len(whole) >= BATCH + queued
    assert {a.json()["usage"]["completion_tokens"] for a in whole} == {100}
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        assert client.completions.create(model=MODEL, prompt="x", max_tokens=1).usage is not None


def test_an_unknown_model_is_answered_with_those_that_exist(http: httpx.Client) -> None:
    asked = {"model": "no-such-model"}
    talk = {**asked, "messages": [{"role": "user", "content": "hello"}]}
    for path, sent in {
        "/v1/completions": {**asked, "prompt": "x"},
        "/v1/chat/completions": talk,
        "/v1/responses": {**asked, "input": "hello"},
        "/tokenize": {**asked, "prompt": "x"},
    }.items():
        answer = http.post(path, json=sent)
        assert answer.status_code == 404, path
        assert f"no-such-model` does not exist; served here: {MODEL}" in answer.json()["error"]["message"], path
