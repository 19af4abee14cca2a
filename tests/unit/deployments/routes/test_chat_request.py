import pytest

from deployments.routes.chat_request import (
    ChatRequest,
    choose_model,
    generation_fields,
    parse,
    result,
    without_tokenizer_spaces,
)
from deployments.routes.generate_kwargs import GenerateKwargs, RefusedRequest


def test_a_prompt_alone_is_enough() -> None:
    assert parse({"prompt": "Hi"}) == ChatRequest(prompt="Hi", return_full_text=True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param([], "body: send a JSON object", id="no object"),
        pytest.param({}, "prompt: Text generation parameter prompt required", id="empty"),
        pytest.param({"prompt": ""}, "prompt: Text generation parameter prompt required", id="empty prompt"),
        pytest.param({"messages": []}, "messages: Conversational parameter messages required", id="no messages"),
        pytest.param({"messages": "Hi"}, "messages: input should be a valid list", id="messages are no list"),
        pytest.param({"messages": [{"content": "Hi"}]}, r"messages\[0\].role: ", id="a message without a role"),
        pytest.param({"messages": [{"role": "user"}]}, r"messages\[0\].content: ", id="a message without content"),
        pytest.param({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "either", id="both"),
        pytest.param({"promt": "Hi"}, "promt: .*did you mean prompt", id="misspelt"),
        pytest.param({"prompt": "Hi", "max_length": 3}, "max_length: put it into generate_kwargs", id="misplaced"),
        pytest.param({"prompt": "Hi", "return_full_text": "x"}, "return_full_text: input should be", id="ill-typed"),
        pytest.param({"prompt": "Hi", "handle_long_generation": "cut"}, "handle_long_generation: ", id="not hole"),
        pytest.param(
            {"prefix": "x", "messages": [{"role": "user", "content": "b"}]}, "prefix: .*system message", id="prefix"
        ),
    ],
)
def test_a_bad_body_is_refused_by_field(body: object, words: str) -> None:
    with pytest.raises(RefusedRequest, match=words):
        parse(body)


@pytest.mark.parametrize(
    ("wanted", "adapters", "chosen"),
    [
        pytest.param(None, [], "base", id="no adapter: the base model"),
        pytest.param(None, ["a"], "a", id="one adapter answers by itself, as if merged"),
        pytest.param("base", ["a"], "base", id="the base model on request"),
        pytest.param("b", ["a", "b"], "b", id="one of several by name"),
    ],
)
def test_who_answers(wanted: str | None, adapters: list[str], chosen: str) -> None:
    assert choose_model(wanted, base="base", adapters=adapters) == chosen


def test_several_adapters_must_be_chosen_from() -> None:
    with pytest.raises(RefusedRequest, match=r"model: .*name one of a, b, base"):
        choose_model(None, base="base", adapters=["a", "b"])


HOLE = ChatRequest(prompt="x", handle_long_generation="hole")
PLAIN = ChatRequest(prompt="x")


def test_a_request_that_fits_is_not_truncated() -> None:
    fields = generation_fields(HOLE, GenerateKwargs(max_new_tokens=10), prompt_tokens=90, context_tokens=100)
    assert fields["max_tokens"] == 10
    assert "truncate_prompt_tokens" not in fields


def test_hole_drops_the_beginning_of_a_prompt_that_is_too_long() -> None:
    fields = generation_fields(HOLE, GenerateKwargs(max_new_tokens=20), prompt_tokens=90, context_tokens=100)
    assert (fields["truncate_prompt_tokens"], fields["truncation_side"]) == (80, "left")


@pytest.mark.parametrize(
    ("request_", "kwargs", "words"),
    [
        pytest.param(PLAIN, GenerateKwargs(max_new_tokens=20), "max_new_tokens: .*at most 10 .*hole", id="too long"),
        pytest.param(PLAIN, GenerateKwargs(max_length=150), "max_length: .*at most 10", id="by max_length"),
        pytest.param(HOLE, GenerateKwargs(max_new_tokens=100), "max_new_tokens: .*ask for fewer", id="no room at all"),
    ],
)
def test_what_does_not_fit_the_context_is_refused(request_: ChatRequest, kwargs: GenerateKwargs, words: str) -> None:
    with pytest.raises(RefusedRequest, match=words):
        generation_fields(request_, kwargs, prompt_tokens=90, context_tokens=100)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        pytest.param(ChatRequest(prompt="Say"), "Say it .", id="prompt and answer"),
        pytest.param(ChatRequest(prompt="Say", return_full_text=False), " it .", id="answer alone"),
        pytest.param(ChatRequest(prompt="Say", prefix="Now: "), "Say it .", id="the prefix is not returned"),
        pytest.param(ChatRequest(prompt="Say", clean_up_tokenization_spaces=True), "Say it.", id="cleaned up"),
        pytest.param(ChatRequest(messages=[{"role": "user", "content": "Say"}]), " it .", id="a conversation"),
    ],
)
def test_the_result(request_: ChatRequest, text: str) -> None:
    assert result(request_, " it .") == {"Result": text}


def test_the_prefix_goes_before_the_prompt() -> None:
    assert ChatRequest(prompt="b", prefix="a").text == "ab"


def test_tokenizer_spaces() -> None:
    assert without_tokenizer_spaces("I 'm sure , it is n't . Is it ?") == "I'm sure, it isn't. Is it?"
