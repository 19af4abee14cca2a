"""`kaito-ray quickstart`: from nothing to an answer of a real model, each step in sight.

Every step is one that a person can repeat by hand, and says how. A second run finds most of it done.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.openai_api import EndpointUnavailable, OpenAIApi
from kaito_ray.cli.options import HomeOption
from kaito_ray.errors import KaitoRayError

if TYPE_CHECKING:
    from kaito_ray.api.app_args import ModelSource
    from kaito_ray.kube.cluster import Cluster

WORKSPACE = "smollm2"
MANIFEST = f"inference/workspace_{WORKSPACE}.yaml"
PRESET = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
EXPECTED = "Paris"
MAX_TOKENS = 32
KUBECTL_TIMEOUT_S = 60
_AGAIN_S = 2.0


class QuickstartFailed(KaitoRayError):
    """A step failed; the message says which, and what to look at."""

    reason = "QuickstartFailed"


def quickstart(
    timeout: Annotated[int, typer.Option(metavar="SECONDS", help="Longest wait for the model to be ready.")] = 480,
    home: HomeOption = None,
) -> None:
    """Start everything on this machine, serve a small model, and ask it a question.

    Fetches the weights, starts the control plane, applies a Workspace with kubectl, and waits. What is there already
    is used again.
    """
    from kaito_ray.catalog.load import find
    from kaito_ray.cli.console import say
    from kaito_ray.cli.examples import example

    began = time.monotonic()
    _step(1, f"The weights of {PRESET}")
    fetch_weights(find(PRESET).source)
    _step(2, "The control plane of this machine")
    target = _start(home)
    _step(3, "The Workspace")
    manifest = example(MANIFEST)
    kubectl_apply(target, manifest)
    _step(4, "Waiting until it serves (about a minute)")
    base_url, answers = _wait_and_ask(target, timeout_s=timeout)
    _step(5, f"“{QUESTION}”")
    for route, answer in answers.items():
        say(f"  [bold]{route:<22}[/] {_escaped(answer)}")
    require_expected(answers)
    say(f"\n[bold green]It works[/], {time.monotonic() - began:.0f} seconds after you asked for it.\n")
    say(what_next(target.kubeconfig, base_url))


def fetch_weights(source: ModelSource) -> None:
    """Fetch the weights in a process of its own, which shows its progress: reading them needs torch.

    Raises:
        QuickstartFailed: they cannot be had; the process has said why.
    """
    given = {name.replace("_", "-"): value for name, value in source.model_dump(exclude_none=True).items()}
    words = [f"--{name}={value}" for name, value in given.items()]
    done = subprocess.run([sys.executable, "-m", "kaito_ray.weights", *words], check=False)
    if done.returncode:
        raise QuickstartFailed("the weights could not be fetched; the lines above say why. `kaito-ray doctor` may help")


def kubectl_apply(target: connection.Target, manifest: Path) -> None:
    """Apply a manifest with the real kubectl, and show the command.

    Raises:
        QuickstartFailed: kubectl is missing, or the API server refused the manifest.
    """
    from kaito_ray.cli.console import say

    words = target.kubectl("apply", f"--filename={manifest}")
    say(f"  [dim]$ {_escaped(' '.join(words))}[/]")
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=KUBECTL_TIMEOUT_S)
    except FileNotFoundError:
        raise QuickstartFailed("kubectl is not on PATH; `make setup` puts one into .venv/bin") from None
    except subprocess.TimeoutExpired:
        raise QuickstartFailed(
            f"kubectl apply did not end within {KUBECTL_TIMEOUT_S} s; see `kaito-ray status`"
        ) from None
    if done.returncode:
        raise QuickstartFailed(f"kubectl apply failed: {done.stderr.strip()}")
    say(f"  {_escaped(done.stdout.strip())}")


def ask(api: OpenAIApi) -> dict[str, str]:
    """Return the answers to the question at temperature 0, by route: KAITO's, and OpenAI's."""
    messages = [{"role": "user", "content": QUESTION}]
    try:
        chat = api.post(
            "/chat", {"messages": messages, "generate_kwargs": {"temperature": 0, "max_new_tokens": MAX_TOKENS}}
        )
        openai = api.complete(
            {"model": api.models()[0], "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}
        )
    finally:
        api.close()
    return {"/chat": str(chat["Result"]), "/v1/chat/completions": str(openai["choices"][0]["message"]["content"])}


def require_expected(answers: Mapping[str, str]) -> None:
    """Raise `QuickstartFailed` where an answer lacks the right word: a model that runs wrongly is no quick start."""
    for route, answer in answers.items():
        if EXPECTED not in answer:
            raise QuickstartFailed(
                f"{route} answered {answer!r}, without {EXPECTED!r}: this build computes wrongly here"
            )


def what_next(kubeconfig: Path, base_url: str) -> str:
    """Return what to try next, and how to stop."""
    return "\n".join(
        (
            "[bold]Try next[/]",
            "  kaito-ray chat                     talk to it",
            "  kaito-ray dashboard                the Ray dashboard, and how to sign in",
            f"  export KUBECONFIG={kubeconfig}",
            "  kubectl get workspace -o wide      and describe, logs, delete, as in any cluster",
            f"  any OpenAI client, with the base URL {base_url}/v1",
            "[bold]Stop[/]",
            "  kaito-ray down",
        )
    )


def _step(number: int, what: str) -> None:
    from kaito_ray.cli.console import say

    say(f"\n[bold cyan]{number}/5[/] [bold]{what}[/]")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _start(home: Path | None) -> connection.Target:
    """Start the control plane unless it runs, and return it."""
    from kaito_ray.cli.console import say
    from kaito_ray.cli.starting import start_detached
    from kaito_ray.local import up as control_plane
    from kaito_ray.local.home import Home, default_home

    here = Home.at(home or default_home())
    if control_plane.state(here.root).running:
        say(f"  runs already in {here.root}")
    else:
        start_detached(here.root)
    return connection.Target(here.kubeconfig, "default")


def _wait_and_ask(target: connection.Target, *, timeout_s: float) -> tuple[str, dict[str, str]]:
    """Return the endpoint and its answers, once there are any.

    After a crash the status may be one moment older than the world: then the endpoint does not answer yet.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        base_url = workspaces.endpoint(_wait(target, timeout_s=max(0.0, deadline - time.monotonic())))
        try:
            return base_url, ask(OpenAIApi(base_url))
        except EndpointUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN_S)


def _wait(target: connection.Target, *, timeout_s: float) -> Mapping[str, Any]:
    from kaito_ray.cli.waiting import display, until_ready

    with display() as show:

        async def ready(cluster: Cluster) -> Mapping[str, Any]:
            return await until_ready(cluster, target.namespace, WORKSPACE, show=show, timeout_s=timeout_s)

        return connection.ask(target, ready)
