"""Tokens of a request, counted from what the engine's front end holds anyway: no body is parsed, no chunk looked at.

vLLM keeps a state for each sequence, with the length of its prompt and the tokens made so far. They are noted as they
begin, in the context of the request that they belong to, and read once, when the answer has ended.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final


class Meter:
    """The sequences of one request."""

    def __init__(self) -> None:
        self._sequences: list[Any] = []
        self.prompt = 0
        """Tokens of the prompts so far."""

    def add(self, sequence: Any, *, again: bool) -> None:
        """Note vLLM's `RequestState` of a sequence; `again`: its prompt was counted with another one."""
        self._sequences.append(sequence)
        self.prompt += 0 if again else sequence.prompt_len

    @property
    def completion(self) -> int:
        """Tokens generated so far, also for a client that left."""
        return sum(s.detokenizer.num_output_tokens() for s in self._sequences if s.detokenizer is not None)


METER: Final[ContextVar[Meter | None]] = ContextVar("meter", default=None)
"""The meter of the request that is being answered; tasks that a handler starts inherit it."""


def count(output_processor: Any) -> None:
    """Note each sequence that enters vLLM's `OutputProcessor` with its request's meter."""
    vllms = output_processor.add_request

    def add_request(request: Any, prompt: Any, parent: Any = None, index: int = 0, queue: Any = None) -> None:
        vllms(request, prompt, parent, index, queue)
        meter = METER.get()
        sequence = output_processor.request_states.get(request.request_id)
        if meter is not None and sequence is not None:
            meter.add(sequence, again=index > 0)

    output_processor.add_request = add_request
