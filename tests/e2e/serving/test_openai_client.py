"""The official client, unchanged, against the application."""

import json
import re

import openai
import pytest

from tests.e2e.serving.conftest import CONTEXT_TOKENS, PRESET

pytestmark = pytest.mark.engine

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCRIPTED_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
"""What the engine is made to say, so that the parser, not the small model, is under test."""
SCRIPTED = {"structured_outputs": {"regex": re.escape(SCRIPTED_CALL)}}


def test_chat_knows_the_capital_of_france(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=PRESET, messages=QUESTION, temperature=0)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_completions_continue_raw_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=PRESET, prompt="The capital of France is", max_tokens=2, temperature=0)
    assert answer.choices[0].text.startswith(" Paris")


def test_a_stream_says_the_same_as_one_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=PRESET, messages=QUESTION, temperature=0)
    chunks = list(client.chat.completions.create(model=PRESET, messages=QUESTION, temperature=0, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert len(chunks) > 5


def test_usage_comes_last_in_a_stream_that_asks_for_it(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=PRESET, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    *content, last = list(stream)
    assert last.choices == []
    assert last.usage.completion_tokens >= 5
    assert all(chunk.usage is None for chunk in content)


def test_a_completion_streams(client: openai.OpenAI) -> None:
    stream = client.completions.create(model=PRESET, prompt="One, two,", max_tokens=8, temperature=0, stream=True)
    assert len([chunk for chunk in stream if chunk.choices[0].text]) >= 4


def test_stop_ends_the_answer_before_the_words(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=PRESET, messages=QUESTION, temperature=0, stop=[" Paris"])
    assert answer.choices[0].message.content == "The capital of France is"
    assert answer.choices[0].finish_reason == "stop"


def test_max_tokens_is_a_length_finish(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=PRESET, messages=QUESTION, temperature=0, max_completion_tokens=2)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 2)


def test_the_same_seed_gives_the_same_answer(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        answer = client.completions.create(
            model=PRESET, prompt="Once upon a time", max_tokens=16, temperature=1.0, seed=seed
        )
        return answer.choices[0].text

    assert ask(1) == ask(1)
    assert len({ask(seed) for seed in range(3)}) > 1


def test_logprobs_of_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=PRESET, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens).startswith("The capital of France is Paris.")
    for token in tokens:
        assert token.top_logprobs[0].logprob == max(top.logprob for top in token.top_logprobs)
        assert token.logprob <= 0


def test_logprobs_of_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=PRESET, prompt="One, two,", max_tokens=4, temperature=0, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 4


def test_responses_say_the_same_as_chat(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=PRESET, input=QUESTION[0]["content"], temperature=0, max_output_tokens=24)
    assert "Paris" in answer.output_text
    assert answer.usage.output_tokens > 0


def test_several_choices(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=PRESET, prompt="Once", max_tokens=4, n=3, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_structured_output_keeps_to_the_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "rank": {"type": "integer", "maximum": 9}},
        "required": ["city", "rank"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=PRESET,
        messages=[{"role": "user", "content": "Name a city and a rank, as JSON."}],
        temperature=0,
        max_completion_tokens=100,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}},
    )
    parsed = json.loads(answer.choices[0].message.content)
    assert parsed.keys() == {"city", "rank"}
    assert isinstance(parsed["rank"], int)


def test_a_tool_call_is_parsed_out_of_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=PRESET, messages=QUESTION, tools=[WEATHER], tool_choice="auto", temperature=0, extra_body=SCRIPTED
    )
    choice = answer.choices[0]
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content


def test_a_tool_call_is_parsed_out_of_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=PRESET,
        messages=QUESTION,
        tools=[WEATHER],
        tool_choice="auto",
        temperature=0,
        stream=True,
        extra_body=SCRIPTED,
    )
    calls = [call for chunk in stream for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert "".join(call.function.name or "" for call in calls) == "get_weather"
    assert json.loads("".join(call.function.arguments or "" for call in calls)) == {"city": "Paris"}


def test_a_named_tool_is_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=PRESET,
        messages=QUESTION,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
        max_completion_tokens=100,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"


def test_an_unknown_model_is_a_404_in_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-4", messages=QUESTION)
    assert raised.value.body["param"] == "model"
    assert "`gpt-4` does not exist" in raised.value.body["message"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"temperature": -1}, "temperature", id="out of range"),
        pytest.param({"max_tokens": CONTEXT_TOKENS * 2}, "max_tokens", id="longer than the context"),
        pytest.param({"messages": [{"content": "no role"}]}, "role", id="a message without a role"),
    ],
)
def test_a_bad_request_is_a_400_that_names_the_field(client: openai.OpenAI, bad: dict[str, object], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as raised:
        client.chat.completions.create(**{"model": PRESET, "messages": QUESTION, **bad})
    assert raised.value.body.keys() >= {"message", "type", "param", "code"}


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert PRESET in [model.id for model in client.models.list()]
    assert client.models.retrieve(PRESET).id == PRESET
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
