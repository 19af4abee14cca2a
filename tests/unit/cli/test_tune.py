from typing import Any

import pytest

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import TuningProgress
from kaito_ray.cli import job_log, tune
from kaito_ray.cli.tune import Run
from kaito_ray.kube.cluster import WORKSPACES
from kaito_ray.testing.builders import TUNING
from kaito_ray.testing.builders import workspace as any_workspace

from .builders import workspace
from .conftest import CommandLine


def line(step: int, loss: float, eval_loss: float | None = None) -> str:
    status = TuningStatus(step=step, steps=4, loss=loss, eval_loss=eval_loss, eta_seconds=9)
    return TuningProgress(phase="Training", status=status).to_line()


def run_of(state: str, **status: Any) -> dict[str, Any]:
    made: dict[str, Any] = any_workspace(inference=None, tuning=TUNING)
    made["status"] = {"state": state, "reason": status.pop("reason", None), "tuning": status}
    return made


def test_a_finished_run_is_told_and_its_adapter_named(command_line: CommandLine) -> None:
    done = run_of("Succeeded", step=4, steps=4, loss=0.25, evalLoss=0.5, output="r.example.com/a@sha256:1")
    command_line.put(WORKSPACES, done)
    result = command_line.run("tune", "watch")
    assert result.exit_code == 0
    assert result.stdout == ("Succeeded step 4 of 4, loss 0.25, held-out loss 0.5, adapter r.example.com/a@sha256:1\n")


def test_a_failed_run_is_an_error_in_its_own_words(command_line: CommandLine) -> None:
    command_line.put(WORKSPACES, run_of("Failed", reason="tuning.input: a.jsonl row 7: no text"))
    result = command_line.run("tune", "watch")
    assert result.exit_code == 1
    assert "a.jsonl row 7: no text" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], "no Workspace tunes", id="none tunes"),
        pytest.param(["smollm2"], "serves and does not tune", id="one that serves"),
    ],
)
def test_only_what_tunes_can_be_watched(command_line: CommandLine, words: list[str], told: str) -> None:
    command_line.put(WORKSPACES, workspace())
    result = command_line.run("tune", "watch", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_curve_is_the_whole_runs_from_the_jobs_log(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [("Running", [line(1, 3.0, 3.5), line(2, 2.0, 3.5)]), ("Succeeded", [])]

    async def read(cluster: Any, *_: Any) -> tuple[tuple[str, ...] | None, bool]:
        state, lines = looks.pop(0)
        (found,) = await cluster.list(WORKSPACES)
        await cluster.replace_status(WORKSPACES, {**found, "status": {**found["status"], "state": state}})
        return tuple(lines), False

    monkeypatch.setattr(job_log, "read", read)
    monkeypatch.setattr(tune, "POLL_S", 0.0)
    command_line.put(WORKSPACES, run_of("Running"))
    result = command_line.run("tune", "watch")
    assert "Running step 2 of 4, loss 2, held-out loss 3.5, about 9 s left" in result.stdout
    assert looks == []


def test_steps_that_a_resumed_run_does_again_stand_once() -> None:
    run = Run()
    for step, loss in ((1, 3.0), (2, 2.5), (3, 2.0), (2, 2.4), (3, 1.9)):
        run.note({"step": step, "steps": 3, "loss": loss})
    assert run.losses == [(1, 3.0), (2, 2.4), (3, 1.9)]


def test_logs_of_a_run_are_its_jobs(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = [(("one", "two"), False), (("one", "two", "three"), False), (("one", "two", "three", "four"), True)]

    async def read(*_: Any) -> tuple[tuple[str, ...] | None, bool]:
        return reads.pop(0)

    monkeypatch.setattr(job_log, "read", read)
    monkeypatch.setattr(job_log, "POLL_S", 0.0)
    command_line.put(WORKSPACES, run_of("Running"))
    assert command_line.run("logs", "-f", "--tail", "1").stdout == "two\nthree\nfour\n"
    assert reads == []
