from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from kaito_ray.cli import chat
from kaito_ray.cli.openai_api import OpenAIApi
from kaito_ray.kube.cluster import WORKSPACES

from .builders import workspace
from .conftest import CommandLine


class Model:
    """Answers every question with the number of messages that it was sent."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.hosts: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.hosts.add(f"{request.url.scheme}://{request.url.netloc.decode()}")
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base"}, {"id": "poet"}]})
        body = json.loads(request.content)
        self.requests.append(body)
        text = f"{body['model']} saw {len(body['messages'])}"
        if body["stream"]:
            events = [{"choices": [{"delta": {"content": piece}}]} for piece in text.split(" ")]
            return httpx.Response(200, text="".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n")
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    served = Model()
    monkeypatch.setattr(chat, "OpenAIApi", partial(OpenAIApi, transport=httpx.MockTransport(served)))
    return served


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, model: Model) -> Callable[[str], None]:
    """Type keys at the prompt and read until the conversation ends."""

    def type_(keys: str) -> None:
        api = OpenAIApi("http://model", transport=httpx.MockTransport(model))
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text(keys)
            chat.converse(api, chat.begin(api, model=None, system=None), stream=True)

    return type_


def test_the_only_ready_workspace_answers(command_line: CommandLine, model: Model) -> None:
    command_line.put(WORKSPACES, workspace("a"), workspace("b", ready=True))
    result = command_line.run("chat", "-m", "Hi")
    assert result.stdout == "basesaw1\n"
    assert model.hosts == {"http://127.0.0.1:20004"}


def test_options_become_the_request(command_line: CommandLine, model: Model) -> None:
    words = ["--url", "http://model/v1/", "--model", "poet", "-s", "Rhyme.", "--temperature", "0", "--max-tokens", "9"]
    result = command_line.run("chat", "-m", "Hi", "--no-stream", *words)
    assert result.stdout == "poet saw 2\n"
    assert model.hosts == {"http://model"}
    assert model.requests == [
        {
            "model": "poet",
            "messages": [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}],
            "temperature": 0.0,
            "max_tokens": 9,
            "stream": False,
        }
    ]


def test_json_output_is_the_whole_response(command_line: CommandLine, model: Model) -> None:
    result = command_line.run("chat", "--url", "http://model", "-m", "Hi", "-o", "json")
    assert json.loads(result.stdout)["choices"][0]["message"]["content"] == "base saw 1"


@pytest.mark.parametrize("words", [("-m", "-"), ()])
def test_what_is_piped_in_is_the_message(command_line: CommandLine, model: Model, words: tuple[str, ...]) -> None:
    command_line.run("chat", "--url", "http://model", *words, input="From a file\n")
    assert model.requests[0]["messages"] == [{"role": "user", "content": "From a file"}]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("-m", " "), "--message: there is nothing to ask"),
        (("-m", "Hi", "--model", "nobody"), "--model: there is no 'nobody' here; there are: base, poet"),
    ],
)
def test_mistakes_are_the_persons_to_mend(
    command_line: CommandLine, model: Model, words: tuple[str, ...], error: str
) -> None:
    result = command_line.run("chat", "--url", "http://model", *words)
    assert result.exit_code == 2
    assert error in result.stderr


def test_the_key_comes_from_the_environment(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    seen = set()

    def handler(request: httpx.Request) -> httpx.Response:
        seen.add(request.headers.get("authorization"))
        return model(request)

    monkeypatch.setattr(chat, "OpenAIApi", partial(OpenAIApi, transport=httpx.MockTransport(handler)))
    monkeypatch.setenv(chat.API_KEY_VARIABLE, "secret")
    command_line.run("chat", "--url", "http://model", "-m", "Hi")
    assert seen == {"Bearer secret"}


def test_a_conversation_remembers_and_ends_with_ctrl_d(
    type_in: Callable[[str], None], model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in("Hi\n\nAgain\n\x04")
    assert [len(request["messages"]) for request in model.requests] == [1, 3]
    assert capsys.readouterr().out == "basesaw1\nbasesaw3\n"


def test_slash_commands_are_not_sent(
    type_in: Callable[[str], None], model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in("/model poet\nHi\n/set hot 1\n/quit\nnever\n")
    assert [request["model"] for request in model.requests] == ["poet"]
    printed = capsys.readouterr()
    assert "* poet" in printed.out
    assert "no parameter 'hot'" in printed.err


def test_ctrl_c_at_the_prompt_drops_the_line_only(type_in: Callable[[str], None], model: Model) -> None:
    type_in("half a li\x03Hi\n\x04")
    assert [request["messages"] for request in model.requests] == [[{"role": "user", "content": "Hi"}]]


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(
    type_in: Callable[[str], None], model: Model, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = OpenAIApi.stream

    def interrupted(self: OpenAIApi, request: Any) -> Iterator[str]:
        if request["messages"][-1]["content"] == "Long":
            yield "Once upon"
            raise KeyboardInterrupt
        yield from stream(self, request)

    monkeypatch.setattr(OpenAIApi, "stream", interrupted)
    type_in("Long\nHi\n\x04")
    assert capsys.readouterr().out == "Once upon  [stopped]\nbasesaw1\n"
