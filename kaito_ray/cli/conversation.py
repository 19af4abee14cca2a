"""A conversation: what has been said, what the next request holds, and what the slash commands do to it.

No terminal and no network here; `chat.py` has both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kaito_ray.errors import UserError

PARAMETERS: Final[dict[str, Callable[[str], Any]]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "max_tokens": int,
    "seed": int,
    "presence_penalty": float,
    "frequency_penalty": float,
    "stop": str,
}
"""What `/set` understands: names of OpenAI's request body (and vLLM's `top_k`), and how to read a value."""

HELP: Final = {
    "/help": "this list",
    "/model [NAME]": "list the models, or talk to another one",
    "/system [TEXT]": "show the system prompt, or set it",
    "/set NAME VALUE": f"set a parameter: {', '.join(PARAMETERS)}",
    "/set NAME": "go back to the server's default",
    "/params": "show the parameters that are set",
    "/clear": "forget what was said",
    "/quit": "leave (also /exit and Ctrl-D)",
}


class UnknownParameter(UserError):
    """`/set` named something that is no parameter, or gave it a value that it cannot have."""

    reason = "UnknownParameter"


class Quit(Exception):
    """The person asked to leave."""


@dataclass
class Conversation:
    """One conversation with one model at a time."""

    model: str
    models: tuple[str, ...]
    system: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    said: list[dict[str, str]] = field(default_factory=list)
    """Messages of user and assistant, in turn."""

    def request(self, text: str) -> dict[str, Any]:
        """Return the body of the chat completion request that asks `text` next."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        question = {"role": "user", "content": text}
        return {"model": self.model, "messages": [*system, *self.said, question], **self.parameters}

    def remember(self, text: str, answer: str) -> None:
        """Keep a question and its answer for the next request."""
        self.said += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]

    def set(self, name: str, value: str) -> str:
        """Set a parameter, or forget it when `value` is empty; return what to tell the person.

        Raises:
            UnknownParameter: there is none of that name, or it cannot have that value.
        """
        key = name.replace("-", "_")
        if key not in PARAMETERS:
            raise UnknownParameter(f"there is no parameter {name!r}; there are: {', '.join(PARAMETERS)}")
        if not value:
            self.parameters.pop(key, None)
            return f"{key} is the server's default again"
        try:
            self.parameters[key] = PARAMETERS[key](value)
        except ValueError:
            raise UnknownParameter(f"{key} wants a number, not {value!r}") from None
        return f"{key} = {self.parameters[key]}"

    def command(self, line: str) -> str:
        """Carry out a slash command and return what to tell the person.

        Raises:
            Quit: it was /quit or /exit.
            UnknownParameter: the words after /set are wrong.
        """
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        match word:
            case "/quit" | "/exit":
                raise Quit
            case "/help":
                return "\n".join(f"{name:<18}{what}" for name, what in HELP.items())
            case "/clear":
                self.said.clear()
                return "forgotten"
            case "/model":
                return self._choose(rest)
            case "/system":
                self.system = rest or self.system
                return f"system prompt: {self.system or '(none)'}"
            case "/set":
                name, _, value = rest.partition(" ")
                return self.set(name, value.strip())
            case "/params":
                return "\n".join(f"{k} = {v}" for k, v in self.parameters.items()) or "all are the server's defaults"
            case _:
                return f"there is no {word}; /help lists what there is"

    def _choose(self, name: str) -> str:
        if name and name not in self.models:
            return f"there is no model {name!r}; there are: {', '.join(self.models)}"
        self.model = name or self.model
        return "\n".join(f"{'*' if model == self.model else ' '} {model}" for model in self.models)
