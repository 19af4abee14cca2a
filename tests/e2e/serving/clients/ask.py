"""Ask a question by LiteLLM and by LangChain, whole and as a stream; print the answers as JSON. Arguments: base URL, model.

Run in an environment of its own (`requirements.lock`): LiteLLM pins an older `openai` than the one that we test with.
"""

from __future__ import annotations

import json
import sys

import litellm
from langchain_openai import ChatOpenAI

QUESTION = "What is the capital of France?"


def with_litellm(url: str, model: str) -> dict[str, str]:
    ask = {
        "model": f"openai/{model}",
        "api_base": url,
        "api_key": "none",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 24,
    }
    whole = litellm.completion(**ask)
    stream = litellm.completion(**ask, stream=True)
    return {
        "litellm": whole.choices[0].message.content,
        "litellm, streamed": "".join(chunk.choices[0].delta.content or "" for chunk in stream),
    }


def with_langchain(url: str, model: str) -> dict[str, str]:
    chat = ChatOpenAI(base_url=url, api_key="none", model=model, temperature=0, max_tokens=24)
    return {
        "langchain": chat.invoke(QUESTION).content,
        "langchain, streamed": "".join(chunk.content for chunk in chat.stream(QUESTION)),
    }


if __name__ == "__main__":
    base, name = sys.argv[1:]
    print(json.dumps(with_litellm(base, name) | with_langchain(base, name)))
