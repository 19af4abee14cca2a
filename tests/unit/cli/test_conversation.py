from __future__ import annotations

import pytest

from kaito_ray.cli.conversation import HELP, Conversation, Quit, UnknownParameter


@pytest.fixture
def talk() -> Conversation:
    return Conversation(model="base", models=("base", "poet"))


def test_a_request_holds_the_system_prompt_what_was_said_and_the_question(talk: Conversation) -> None:
    talk.command("/system Be brief.")
    talk.remember("Hi", "Hello")
    talk.command("/set temperature 0")
    assert talk.request("And now?") == {
        "model": "base",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "And now?"},
        ],
        "temperature": 0.0,
    }


def test_a_question_is_remembered_only_with_its_answer(talk: Conversation) -> None:
    talk.request("Hi")
    assert talk.said == []


def test_clear_forgets_what_was_said_and_keeps_the_settings(talk: Conversation) -> None:
    talk.command("/set max_tokens 5")
    talk.remember("Hi", "Hello")
    talk.command("/clear")
    assert talk.request("x")["messages"] == [{"role": "user", "content": "x"}]
    assert talk.request("x")["max_tokens"] == 5


def test_model_lists_and_switches(talk: Conversation) -> None:
    assert talk.command("/model") == "* base\n  poet"
    assert talk.command("/model poet") == "  base\n* poet"
    assert talk.model == "poet"


def test_an_unknown_model_is_refused_with_the_list(talk: Conversation) -> None:
    assert talk.command("/model nobody") == "there is no model 'nobody'; there are: base, poet"
    assert talk.model == "base"


def test_set_without_a_value_goes_back_to_the_default(talk: Conversation) -> None:
    talk.command("/set top-p 0.5")
    assert talk.parameters == {"top_p": 0.5}
    assert "default" in talk.command("/set top_p")
    assert talk.parameters == {}


def test_params_shows_what_is_set(talk: Conversation) -> None:
    assert "defaults" in talk.command("/params")
    talk.command("/set seed 7")
    assert talk.command("/params") == "seed = 7"


@pytest.mark.parametrize(
    ("line", "words"),
    [("/set colour red", "no parameter 'colour'"), ("/set temperature hot", "temperature wants a number, not 'hot'")],
)
def test_set_refuses_by_name(talk: Conversation, line: str, words: str) -> None:
    with pytest.raises(UnknownParameter, match=words):
        talk.command(line)


@pytest.mark.parametrize("word", ["/quit", "/exit"])
def test_quit_leaves(talk: Conversation, word: str) -> None:
    with pytest.raises(Quit):
        talk.command(word)


def test_help_names_every_command_and_each_is_known(talk: Conversation) -> None:
    text = talk.command("/help")
    for name in HELP:
        assert name in text
    for word in {name.split()[0] for name in HELP} - {"/quit", "/set"}:
        assert "there is no" not in talk.command(word)


def test_an_unknown_command_points_to_help(talk: Conversation) -> None:
    assert talk.command("/dance") == "there is no /dance; /help lists what there is"
