"""What the columns of a data set mean, and a row of each shape in TRL's form.

| Shape | Columns | Becomes |
|---|---|---|
| messages | `messages` or `conversations`: role and content, or ShareGPT's from and value | prompt, completion |
| pair | `prompt` and `completion`, as TRL has it | the same, text as it stands |
| question | a context and a response column; `question`/`answer`, `prompt`/`response`, `input`/`output` | prompt, completion |
| instruction | Dolly: `instruction`, `context`, `response`; Alpaca: `instruction`, `input`, `output` | prompt, completion |
| text | `text`, or the response column alone | text |

Where the data says what the answer is, loss is on the answer alone. A conversation becomes one example for each answer
of the assistant: that is exact for every chat template, also those that drop the reasoning of earlier turns, at the
price of reading the turns before it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tuning.config import DatasetConfig
from tuning.files import BadRow

Kind = Literal["messages", "pair", "question", "instruction", "text"]
Example = dict[str, Any]
"""`{"prompt": ..., "completion": ...}`, texts or lists of messages, or `{"text": ...}`."""

_ROLES: Final = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_CONVERSATIONS: Final = ("messages", "conversations", "conversation")
_QUESTIONS: Final = (("question", "answer"), ("prompt", "response"), ("input", "output"))


@dataclass(frozen=True)
class Shape:
    """The meaning of a file's columns."""

    kind: Kind
    answer: str
    """The column with the conversation, the answer or the text."""
    question: str | None = None
    """The column with the question or instruction."""
    context: str | None = None
    """The column with what the instruction is about."""


def recognise(columns: Collection[str], config: DatasetConfig) -> Shape:
    """Return the shape of rows with these columns; columns that the config names come first.

    Raises:
        BadRow: the columns mean nothing, or one that the config names is not there.
    """
    for field in ("messages_column", "context_column", "response_column"):
        named = getattr(config, field)
        if named is not None and named not in columns:
            raise BadRow(f"there is no column {named!r}, which DatasetConfig.{field} names; there are {_list(columns)}")
    if config.messages_column:
        return Shape("messages", config.messages_column)
    if config.context_column:
        answer = config.response_column or next((c for c in ("response", "completion", "answer") if c in columns), None)
        if answer is None:
            raise BadRow("DatasetConfig.context_column needs response_column beside it")
        return Shape("question", answer, config.context_column)
    if config.response_column:
        return Shape("text", config.response_column)
    return _by_name(columns)


def examples(row: Mapping[str, Any], shape: Shape, *, chat: bool) -> list[Example]:
    """Return the examples of one row: one, or one for each answer in a conversation.

    With `chat`, the tokenizer has a chat template, and questions and answers become messages.

    Raises:
        BadRow: a column is empty or of another form.
    """
    if shape.kind == "messages":
        if not chat:
            raise BadRow("holds a conversation, but the model has no chat template; set ModelConfig.chat_template")
        return _turns(row.get(shape.answer))
    if shape.kind == "text":
        return [{"text": _text(row, shape.answer)}]
    if shape.kind == "pair":
        return [_pair(row.get("prompt"), row.get("completion"))]
    question = _text(row, str(shape.question))
    context = str(row.get(shape.context) or "").strip() if shape.context else ""
    answer = _text(row, shape.answer)
    prompt = f"{question}\n\n{context}" if context else question
    if chat:
        return [{"prompt": [_message("user", prompt)], "completion": [_message("assistant", answer)]}]
    return [{"prompt": f"{prompt}\n\n", "completion": answer}]


def _by_name(columns: Collection[str]) -> Shape:
    for name in _CONVERSATIONS:
        if name in columns:
            return Shape("messages", name)
    if {"prompt", "completion"} <= set(columns):
        return Shape("pair", "completion", "prompt")
    if "instruction" in columns:
        answer = next((name for name in ("response", "output") if name in columns), None)
        context = next((name for name in ("context", "input") if name in columns), None)
        if answer:
            return Shape("instruction", answer, "instruction", context)
    for question, answer in _QUESTIONS:
        if {question, answer} <= set(columns):
            return Shape("question", answer, question)
    if "text" in columns:
        return Shape("text", "text")
    raise BadRow(
        f"columns {_list(columns)} are no shape that we know (messages; prompt and completion; instruction and "
        "response or output; text); name them in DatasetConfig: messages_column, or context_column and response_column"
    )


def _turns(value: Any) -> list[Example]:
    if not isinstance(value, list) or not value:
        raise BadRow(f"a conversation is a list of messages, not {_brief(value)}")
    messages = [_checked(message) for message in value]
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i > 0]
    if not answers:
        raise BadRow("the conversation has no answer of role assistant after its first message")
    return [{"prompt": messages[:i], "completion": [messages[i]]} for i in answers]


def _checked(message: Any) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise BadRow(f"a message has role and content, not {_brief(message)}")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise BadRow(f"a message needs a text role and a text content, not {_brief(dict(message))}")
    role = _ROLES.get(role.lower(), role.lower())
    if role not in ("system", "user", "assistant", "tool"):
        raise BadRow(f"role {role!r} is none of system, user, assistant, tool")
    if role == "assistant" and not content.strip():
        raise BadRow("an answer of the assistant is empty")
    return _message(role, content)


def _pair(prompt: Any, completion: Any) -> Example:
    if isinstance(prompt, list) and isinstance(completion, list) and prompt and completion:
        return {"prompt": [_checked(m) for m in prompt], "completion": [_checked(m) for m in completion]}
    if isinstance(prompt, str) and isinstance(completion, str) and completion.strip():
        return {"prompt": prompt, "completion": completion}
    raise BadRow(
        f"prompt and completion are two texts or two lists of messages, not {_brief(prompt)}, {_brief(completion)}"
    )


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"column {column!r} must hold text, not {_brief(value)}")
    return value


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _brief(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 40 else f"{words[:37]}..."


def _list(columns: Collection[str]) -> str:
    return ", ".join(sorted(columns))
