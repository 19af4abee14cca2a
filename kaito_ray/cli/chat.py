"""`kaito-ray chat`: talk to a Workspace, line by line or with one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.conversation import HELP, Conversation, Quit
from kaito_ray.cli.forward import reachable
from kaito_ray.cli.openai_api import OpenAIApi, RequestRefused
from kaito_ray.cli.options import (
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    Output,
    OutputOption,
    WorkspaceArgument,
)
from kaito_ray.errors import KaitoRayError, UserError
from kaito_ray.kube.cluster import WORKSPACES

API_KEY_VARIABLE = "KAITO_RAY_API_KEY"
"""Where the key is read from: on a command line, every user of the machine could see it."""


def chat(
    workspace: WorkspaceArgument = None,
    *,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", metavar="TEXT", help="Ask this, print the answer, leave; `-` reads it in."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system-prompt", "-s", metavar="TEXT", help="How the model shall behave.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", show_default="the base model", help="The model, or one of its adapters."
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 always answers the same.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling.")] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer while it is written.")] = True,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", show_default="the Workspace's", help="Talk to this base URL; asks no cluster."),
    ] = None,
    output: OutputOption = Output.TABLE,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Talk to the model of a Workspace.

    Without a name it is the only Workspace that is ready. A Workspace with API keys reads one from KAITO_RAY_API_KEY.
    """
    if message == "-" or (message is None and not sys.stdin.isatty()):
        message = sys.stdin.read().strip()
    given = {"temperature": temperature, "max_tokens": max_tokens, "top_p": top_p}
    with _base_url(url, workspace, kubeconfig=kubeconfig, home=home, namespace=namespace) as base_url:
        api = OpenAIApi(base_url, api_key=os.environ.get(API_KEY_VARIABLE))
        try:
            talk = begin(api, model=model, system=system)
            talk.parameters.update({name: value for name, value in given.items() if value is not None})
            if message is None:
                converse(api, talk, stream=stream)
            else:
                answer_once(api, talk, message, output=output, stream=stream)
        finally:
            api.close()


@contextmanager
def _base_url(
    url: str | None, workspace: str | None, *, kubeconfig: Path | None, home: Path | None, namespace: str | None
) -> Iterator[str]:
    """Yield the URL to talk to: the given one, or that of the Workspace, made reachable while we talk."""
    if url:
        yield url.rstrip("/").removesuffix("/v1")
        return
    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    found = connection.ask(target, lambda cluster: cluster.list(WORKSPACES, target.namespace))
    with reachable(target, workspaces.pick(found, workspace, ready=True)) as base_url:
        yield base_url


def begin(api: OpenAIApi, *, model: str | None, system: str | None) -> Conversation:
    """Return a new conversation with `model`, or with the base model.

    Raises:
        RequestRefused: the Workspace serves no such model.
    """
    models = tuple(api.models())
    if model and model not in models:
        raise RequestRefused(f"--model: there is no {model!r} here; there are: {', '.join(models)}")
    return Conversation(model=model or models[0], models=models, system=system)


def answer_once(api: OpenAIApi, talk: Conversation, text: str, *, output: Output, stream: bool) -> None:
    """Print the answer to `text`, or with JSON output the whole response."""
    from kaito_ray.cli.console import print_json

    if not text.strip():
        raise UserError("--message: there is nothing to ask; give some words")
    if output is Output.JSON:
        print_json(api.complete(talk.request(text)))
    else:
        _print_answer(api, talk, text, stream=stream)


def converse(api: OpenAIApi, talk: Conversation, *, stream: bool) -> None:
    """Read lines until the person leaves; Ctrl-C stops an answer, Ctrl-D ends the conversation."""
    from kaito_ray.cli.console import say

    say(f"[bold]{talk.model}[/] at {api.base_url}. /help lists the commands, Ctrl-D leaves.")
    for line in _lines():
        try:
            if line.startswith("/"):
                print(talk.command(line))
            else:
                talk.remember(line, _print_answer(api, talk, line, stream=stream))
        except Quit:
            return
        except KeyboardInterrupt:
            print("  [stopped]")
        except KaitoRayError as error:
            from kaito_ray.cli.main import tell

            tell(error)


def _print_answer(api: OpenAIApi, talk: Conversation, text: str, *, stream: bool) -> str:
    request = talk.request(text)
    if stream:
        pieces = []
        for piece in api.stream(request):
            print(piece, end="", flush=True)
            pieces.append(piece)
        print()
        return "".join(pieces)
    answer = str(api.complete(request)["choices"][0]["message"]["content"] or "")
    print(answer)
    return answer


def _lines() -> Iterator[str]:
    """Yield what the person types, without empty lines, until Ctrl-D; Ctrl-C drops the line."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter

    prompt: PromptSession[str] = PromptSession(
        completer=WordCompleter([name.split()[0] for name in HELP], sentence=True), complete_while_typing=True
    )
    while True:
        try:
            line = prompt.prompt("> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line:
            yield line
