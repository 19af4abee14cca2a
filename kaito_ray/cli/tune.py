"""`kaito-ray tune watch`: a tuning run as it goes: loss curve, progress, time left.

The curve is the whole run's where the job's log can be read; elsewhere it begins when the watch does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from kaito_ray.cli import connection, job_log, workspaces
from kaito_ray.cli.curve import Point, draw
from kaito_ray.cli.options import HomeOption, KubeconfigOption, NamespaceOption, WorkspaceArgument
from kaito_ray.errors import ApiUnavailable, KaitoRayError
from kaito_ray.kube.cluster import WORKSPACES

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Cluster

app = typer.Typer(no_args_is_help=True, help="Models that are tuned.")

POLL_S = 1.0
_HEIGHT = 10
_BAR = 30


class TuningFailed(KaitoRayError):
    """The run that was watched did not succeed."""

    reason = "TuningFailed"


@app.callback()
def group() -> None:
    """Models that are tuned."""


@app.command()
def watch(
    workspace: WorkspaceArgument = None,
    *,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Draw the loss curve of a run with its progress and the time left, until it ends.

    On a terminal the picture is redrawn in place; elsewhere a line is written for each step. The exit status is 1 where
    the run fails.
    """
    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    found = connection.ask(target, lambda cluster: cluster.list(WORKSPACES, target.namespace))
    name = pick(found, workspace)["metadata"]["name"]
    run = Run()
    with _screen() as live:
        while not run.ended:
            _look(target, name, run)
            if live is not None:
                live.update(_picture(run, live.console.width), refresh=True)
            elif run.news():
                print(sentence(run), flush=True)
            if not run.ended:
                time.sleep(POLL_S)
    if run.state == "Failed":
        raise TuningFailed(run.why or "the run failed")


@dataclass
class Run:
    """What is known of a run so far."""

    state: str = ""
    why: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)
    """`status.tuning`."""
    losses: list[Point] = field(default_factory=list)
    eval_losses: list[Point] = field(default_factory=list)
    _told: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("Succeeded", "Failed")

    def note(self, status: Mapping[str, Any]) -> None:
        """Take in one report; reports come in order, and the same one may come twice."""
        self.status = {**self.status, **status}
        step = int(status.get("step") or 0)
        for points, key in ((self.losses, "loss"), (self.eval_losses, "evalLoss")):
            value = status.get(key)
            if value is None or (points and value == points[-1][1] and key == "evalLoss"):
                continue
            # A run that is resumed does some steps again.
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, float(value)))

    def news(self) -> bool:
        """Return whether there is anything to say that was not said before."""
        told, self._told = self._told, sentence(self)
        return told != self._told


def pick(found: Any, name: str | None) -> Mapping[str, Any]:
    """Return the tuning Workspace that is meant.

    Raises:
        workspaces.NoSuchWorkspace: there is none, or several, or it serves.
    """
    tuning = [w for w in found if "tuning" in w]
    if name is not None and name in {w["metadata"]["name"] for w in found if "tuning" not in w}:
        raise workspaces.NoSuchWorkspace(f"Workspace {name!r} serves and does not tune; `kaito-ray status` shows it")
    if name is None and not tuning:
        raise workspaces.NoSuchWorkspace(
            "no Workspace tunes; apply one: examples/tuning/workspace_qlora_smollm2.yaml says how"
        )
    return workspaces.pick(tuning, name)


def sentence(run: Run) -> str:
    """Return the run in one line."""
    told = run.status
    if not told.get("steps") or run.state == "Failed":
        return f"{run.state or 'Pending'}: {run.why or 'waiting for the operator'}"
    words = [f"{run.state} step {told.get('step', 0)} of {told['steps']}"]
    words += [f"{label} {told[key]:.4g}" for key, label in _FIGURES if told.get(key) is not None]
    if told.get("etaSeconds") and not run.ended:
        words.append(f"about {told['etaSeconds']} s left")
    if told.get("output"):
        words.append(f"adapter {told['output']}")
    return ", ".join(words)


_FIGURES = (("loss", "loss"), ("evalLoss", "held-out loss"), ("tokensPerSecond", "tokens/s"))


def _look(target: connection.Target, name: str, run: Run) -> None:
    async def look(cluster: Cluster) -> tuple[Mapping[str, Any] | None, job_log.Lines | None]:
        workspace = await cluster.get(WORKSPACES, name, target.namespace)
        return workspace, (await job_log.read(cluster, target.namespace, name))[0]

    from kaito_ray.api.tuning_args import progress

    try:
        workspace, lines = connection.ask(target, look)
    except ApiUnavailable as error:  # a supervisor may be restarting it at this very moment
        run.why = str(error)
        return
    if workspace is None:
        raise workspaces.NoSuchWorkspace(f"Workspace {name!r} is not there (any more): apply it again")
    status = workspace.get("status") or {}
    run.state, run.why = str(status.get("state") or ""), workspaces.why(workspace)
    for told in progress(lines or ()):
        if told.phase == "Training":
            run.note(told.status.to_wire())
    run.note(status.get("tuning") or {})


def _screen() -> AbstractContextManager[Any]:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    return Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()


def _picture(run: Run, width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    steps, step = int(run.status.get("steps") or 0), int(run.status.get("step") or 0)
    done = round(_BAR * step / steps) if steps else 0
    lines = [Text(line, style="blue") for line in draw(run.losses, steps=steps, width=width, height=_HEIGHT)]
    held_out = "  ".join(f"{value:.3g}@{at}" for at, value in run.eval_losses)
    return Group(
        *lines,
        Text(f"[{'#' * done}{'.' * (_BAR - done)}] {sentence(run)}"),
        *([Text(f"held-out loss by step: {held_out}", style="dim")] if held_out else []),
    )
