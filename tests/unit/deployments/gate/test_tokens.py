"""Tokens are read from what the engine's front end holds, here a stand-in with the same attributes."""

from types import SimpleNamespace
from typing import Any

from deployments.gate import tokens
from deployments.gate.tokens import METER, Meter


class Processor:
    """Has the two names of vLLM's `OutputProcessor` that are used."""

    def __init__(self) -> None:
        self.request_states: dict[str, Any] = {}

    def add_request(self, request: Any, prompt: Any, parent: Any = None, index: int = 0, queue: Any = None) -> None:
        made = SimpleNamespace(num_output_tokens=lambda: request.made)
        self.request_states[request.request_id] = SimpleNamespace(prompt_len=len(prompt), detokenizer=made)


def request(name: str, made: int) -> SimpleNamespace:
    return SimpleNamespace(request_id=name, made=made)


def test_the_prompt_of_several_answers_counts_once_and_every_answer_counts() -> None:
    processor, meter = Processor(), Meter()
    tokens.count(processor)
    before = METER.set(meter)
    try:
        processor.add_request(request("a-0", 3), "12345", index=0)
        processor.add_request(request("a-1", 4), "12345", index=1)
    finally:
        METER.reset(before)
    assert (meter.prompt, meter.completion) == (5, 7)


def test_prompts_of_several_requests_count_each() -> None:
    processor, meter = Processor(), Meter()
    tokens.count(processor)
    before = METER.set(meter)
    try:
        for name in ("a", "b"):
            processor.add_request(request(name, 1), "123")
    finally:
        METER.reset(before)
    assert (meter.prompt, meter.completion) == (6, 2)


def test_what_nobody_asked_for_is_nobodys() -> None:
    processor, meter = Processor(), Meter()
    tokens.count(processor)
    processor.add_request(request("warm-up", 1), "123")
    assert "warm-up" in processor.request_states
    assert (meter.prompt, meter.completion) == (0, 0)
