"""`up`, `down` and `status`, over a control plane that only says what it would do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import WORKSPACES
from kaito_ray.local import up as control_plane
from kaito_ray.local.home import Home
from kaito_ray.local.up import ControlPlaneState, PartState

from .builders import workspace
from .conftest import CommandLine

PARTS = tuple(PartState(name, 100 + i, running=True, restarts=0) for i, name in enumerate(("apiserver", "operator")))


@dataclass
class Said:
    """Stands for `kaito_ray.local.up`: notes what was asked."""

    calls: list[str] = field(default_factory=list)
    now: ControlPlaneState = field(
        default_factory=lambda: ControlPlaneState("/home", False, False, None, "https://127.0.0.1:1", ())
    )
    fails: KaitoRayError | None = None

    def up(self, home: Path, *, detach: bool) -> None:
        self.calls.append(f"up {home.name} {'detached' if detach else 'here'}")
        if self.fails:
            raise self.fails
        self.now = replace(self.now, running=True, ready=True, pid=99, parts=PARTS)

    def down(self, home: Path) -> None:
        self.calls.append(f"down {home.name}")

    def state(self, home: Path) -> ControlPlaneState:
        return self.now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    said = Said()
    for name in ("up", "down", "state"):
        monkeypatch.setattr(control_plane, name, getattr(said, name))
    return said


def test_up_detached_shows_its_processes_and_what_to_type_next(
    command_line: CommandLine, said: Said, tmp_path: Path
) -> None:
    result = command_line.run("up", "--detach")
    assert said.calls == ["up home detached"]
    assert "✓ apiserver  process 100" in result.stderr
    assert f"export KUBECONFIG={tmp_path}/home/kubeconfig\n" in result.stderr
    assert "examples/inference/workspace_smollm2.yaml\n" in result.stderr


def test_up_in_the_foreground_says_what_to_type_before_it_stays(command_line: CommandLine, said: Said) -> None:
    result = command_line.run("up")
    assert said.calls == ["up home here"]
    assert "Ctrl-C ends it" in result.stderr
    assert "export KUBECONFIG=" in result.stderr


def test_a_failed_start_is_told(command_line: CommandLine, said: Said) -> None:
    said.fails = control_plane.StartFailed("operator did not start")
    result = command_line.run("up", "--detach")
    assert result.exit_code == 1
    assert "error: operator did not start" in result.stderr


def test_down_ends_it(command_line: CommandLine, said: Said) -> None:
    assert "kaito-ray up --detach" in command_line.run("down").stderr
    assert said.calls == ["down home"]


def test_status_is_of_the_control_plane_and_of_each_workspace(command_line: CommandLine, said: Said) -> None:
    said.now = replace(said.now, running=True, ready=True, parts=PARTS)
    command_line.put(WORKSPACES, workspace("a", reason="loading weights"), workspace("b", ready=True))
    result = command_line.run("status")
    assert result.exit_code == 0
    assert "runs at https://127.0.0.1:1 (apiserver 100, operator 101)" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "NAME"
    assert "loading weights" in lines[1]


def test_status_says_what_restarts(command_line: CommandLine, said: Said) -> None:
    broken = PartState("operator", None, running=False, restarts=4)
    said.now = replace(said.now, running=True, parts=(PARTS[0], broken))
    assert "(apiserver 100, operator restarting; 4 restarts)" in command_line.run("status").stderr


def test_status_for_programs(command_line: CommandLine, said: Said) -> None:
    command_line.put(WORKSPACES, workspace("b", ready=True))
    found = json.loads(command_line.run("status", "-o", "json").stdout)
    assert found["controlPlane"]["running"] is False
    assert [w["name"] for w in found["workspaces"]] == ["b"]


def test_status_without_any_cluster_says_so_and_fails(
    command_line: CommandLine, said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command_line.kubeconfig = None
    result = command_line.run("status")
    assert result.exit_code == 1
    assert "`kaito-ray up --detach` starts it" in result.stderr


def test_status_of_a_named_kubeconfig_that_is_not_there_is_a_mistake(command_line: CommandLine, said: Said) -> None:
    assert command_line.run("status", "--kubeconfig", "/no/such").exit_code == 2


def test_status_with_no_workspace_names_the_namespace(command_line: CommandLine, said: Said) -> None:
    assert "no Workspace in namespace team-a" in command_line.run("status", "-n", "team-a").stderr


def test_a_second_control_plane_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    with Home.at(tmp_path / "home").held():
        result = command_line.run("up", "--detach")
    assert result.exit_code == 1
    assert "a control plane already runs in" in result.stderr
