"""Any body of `/chat` is read, or refused in words that name a field."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from deployments.routes import chat_request, generate_kwargs
from deployments.routes.chat_request import ChatRequest
from deployments.routes.generate_kwargs import GenerateKwargs, RefusedRequest

LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6) | st.just("hole")
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from([*ChatRequest.model_fields, "max_tokens", "stream"]) | st.text(max_size=5)
OPTIONS = st.dictionaries(
    st.sampled_from([*GenerateKwargs.model_fields, *generate_kwargs.INSTEAD]) | st.text(max_size=5), TREES, max_size=4
)
COUNTS = st.integers(0, 300)


@given(body=st.dictionaries(FIELDS, TREES, max_size=5) | TREES)
def test_any_body_is_read_or_refused_by_field(body: Any) -> None:
    try:
        read = chat_request.parse(body)
    except RefusedRequest as refused:
        field, _, words = str(refused).partition(": ")
        assert field or "" in body
        assert words
    else:
        assert (read.prompt is None) is not (read.messages is None)


@given(options=OPTIONS, prompt=COUNTS, context=st.integers(1, 300), hole=st.sampled_from([None, "hole"]))
def test_any_options_make_a_request_that_fits_the_context_or_are_refused(
    options: dict[str, Any], prompt: int, context: int, hole: Any
) -> None:
    request = ChatRequest(prompt="x", handle_long_generation=hole)
    try:
        kwargs = generate_kwargs.parse(options)
        fields = chat_request.generation_fields(request, kwargs, prompt_tokens=prompt, context_tokens=context)
    except RefusedRequest as refused:
        words = str(refused)
    else:
        assert fields["max_tokens"] >= 1
        assert min(prompt, fields.get("truncate_prompt_tokens", prompt)) + fields["max_tokens"] <= context
        return
    assert words.startswith("generate_kwargs.")
