"""Streams that never stop, each read to its end and checked whole."""

from __future__ import annotations

import itertools
import json
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import httpx

from tests.e2e.clients import running

PROMPT = "Once upon a time"
TOKENS = 16


@dataclass
class Load:
    """`clients` connections, each with one stream after the other; whatever is not a whole answer is written down."""

    url: str
    models: tuple[str, ...]
    clients: int
    key: str
    failures: list[str] = field(default_factory=list)
    whole: int = 0
    _used: dict[int, str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def running(self) -> AbstractContextManager[None]:
        return running(self._stop, [partial(self._client, number) for number in range(self.clients)])

    def use(self, key: str, *, within_s: float = 120) -> None:
        """Use that key from now on; return when nobody sends the one before any more."""
        self.key = key
        deadline = time.monotonic() + within_s
        while set(self._used.values()) != {key}:
            assert time.monotonic() < deadline, self._used
            time.sleep(0.05)

    def _client(self, number: int) -> None:
        models = itertools.cycle(self.models)
        with httpx.Client(base_url=self.url, timeout=120) as http:
            while not self._stop.is_set():
                self._used[number] = self.key
                if fault := stream(http, next(models), self._used[number]):
                    self.failures.append(f"{time.strftime('%X')} {fault}")
                else:
                    self.whole += 1


def stream(http: httpx.Client, model: str, key: str) -> str | None:
    """Return what is wrong with one streamed answer: it must have every token, each in its place, and an end."""
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
    options = {"stream_options": {"include_usage": True}, "return_token_ids": True}
    try:
        with http.stream(
            "POST", "/v1/completions", json=body | options, headers={"authorization": f"Bearer {key}"}
        ) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    except httpx.HTTPError as error:
        return f"{model}: {error!r}"
    if answer.status_code != 200 or lines[-1:] != ["[DONE]"]:
        return f"{model}: {answer.status_code} {lines[-1:]}"
    *chunks, last = [json.loads(line) for line in lines[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    tokens = sum(len(choice["token_ids"]) for choice in choices)
    ends = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    if (tokens, ends, last["usage"]["completion_tokens"]) != (TOKENS, ["length"], TOKENS):
        return f"{model}: {tokens} of {TOKENS} tokens, ended by {ends}, {last['usage']}"
    return None
