"""The body of `/chat` as KAITO defines it, and what it becomes for vLLM. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.routes.generate_kwargs import GenerateKwargs, RefusedRequest, answer_tokens, sampling


class ChatRequest(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str | None = None
    """Base model or adapter; absent means the one adapter where there is exactly one, else the base model."""
    prompt: str | None = None
    """Raw text to go on from; no chat template is applied."""
    messages: list[dict[str, Any]] | None = None
    """A conversation: `[{"role": "user", "content": "..."}]`."""
    return_full_text: bool = True
    """With `prompt`: put the prompt before the answer. With `messages` the answer alone is returned, as in KAITO."""
    clean_up_tokenization_spaces: bool = False
    """Remove the spaces that some tokenizers leave before punctuation."""
    prefix: str | None = None
    """Text put before `prompt` for the model, and not returned."""
    handle_long_generation: Literal["hole"] | None = None
    """`hole` drops the beginning of a prompt that is too long."""
    generate_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Options of the generation, by transformers' names."""

    @property
    def text(self) -> str:
        """What the model reads, where the request is a prompt."""
        return (self.prefix or "") + (self.prompt or "")


def parse(body: Any) -> ChatRequest:
    """Return the checked body.

    Raises:
        RefusedRequest: a field is unknown, ill-typed or contradicts another.
    """
    if not isinstance(body, dict):
        raise RefusedRequest("body", 'send a JSON object, such as {"prompt": "..."}')
    for key in body:
        if key not in ChatRequest.model_fields:
            raise RefusedRequest(str(key), _unknown(str(key)))
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedRequest(".".join(map(str, first["loc"])), first["msg"].lower()) from error
    if request.prompt is not None and request.messages is not None:
        raise RefusedRequest("messages", "give either prompt or messages")
    if request.messages is not None and not request.messages:
        raise RefusedRequest("messages", "Conversational parameter messages required: the list is empty")
    for i, message in enumerate(request.messages or ()):
        if not isinstance(message.get("role"), str):
            raise RefusedRequest(f"messages[{i}].role", "say who speaks: system, user or assistant")
        if message.get("content") is None and not message.get("tool_calls"):
            raise RefusedRequest(f"messages[{i}].content", "the message is empty")
    if request.messages is None and not request.prompt:
        raise RefusedRequest("prompt", "Text generation parameter prompt required (or messages, for a conversation)")
    if request.messages is not None and request.prefix is not None:
        raise RefusedRequest("prefix", "it goes before prompt; with messages, use a system message")
    return request


def choose_model(wanted: str | None, *, base: str, adapters: Sequence[str]) -> str:
    """Return who answers: KAITO merged its one adapter into the model, so one adapter answers by itself.

    Raises:
        RefusedRequest: there are several adapters and none is named.
    """
    if wanted is not None:
        return wanted
    if len(adapters) > 1:
        raise RefusedRequest("model", f"several adapters are served; name one of {', '.join((*adapters, base))}")
    return adapters[0] if adapters else base


def generation_fields(
    request: ChatRequest, kwargs: GenerateKwargs, *, prompt_tokens: int, context_tokens: int
) -> dict[str, Any]:
    """Return the fields of vLLM's request that say how to generate.

    Raises:
        RefusedRequest: prompt and answer do not fit the model's context.
    """
    new = answer_tokens(kwargs, prompt_tokens=prompt_tokens)
    fields = {**sampling(kwargs, prompt_tokens=prompt_tokens), "max_tokens": new}
    if prompt_tokens + new <= context_tokens:
        return fields
    which = "max_length" if kwargs.max_new_tokens is None else "max_new_tokens"
    if new >= context_tokens:
        raise RefusedRequest(
            f"generate_kwargs.{which}", f"the model's context is {context_tokens} tokens; ask for fewer"
        )
    if request.handle_long_generation == "hole":
        return {**fields, "truncate_prompt_tokens": context_tokens - new, "truncation_side": "left"}
    raise RefusedRequest(
        f"generate_kwargs.{which}",
        f"the prompt has {prompt_tokens} tokens, the model's context is {context_tokens}, so at most "
        f"{max(0, context_tokens - prompt_tokens)} are left for the answer; ask for fewer, or set "
        'handle_long_generation: "hole" to drop the beginning of the prompt',
    )


def result(request: ChatRequest, answer: str) -> dict[str, str]:
    """Return the body of the response."""
    answer = without_tokenizer_spaces(answer) if request.clean_up_tokenization_spaces else answer
    whole = request.prompt is not None and request.return_full_text
    return {"Result": f"{request.prompt}{answer}" if whole else answer}


def without_tokenizer_spaces(text: str) -> str:
    """Return `text` as transformers' `clean_up_tokenization` leaves it: simple English artifacts of spacing undone."""
    for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(spaced, spaced.strip())
    return text


def _unknown(key: str) -> str:
    if key in GenerateKwargs.model_fields:
        return f"put it into generate_kwargs: {{{key!r}: ...}}"
    near = get_close_matches(key, ChatRequest.model_fields, n=1, cutoff=0.6)
    return "there is no such field" + (f"; did you mean {near[0]}?" if near else "")
