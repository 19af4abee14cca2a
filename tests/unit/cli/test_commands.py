"""The small commands, from words on the command line to words on the terminal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import WORKSPACES

from .builders import workspace
from .conftest import CommandLine


def test_endpoint_prints_the_url_alone(command_line: CommandLine) -> None:
    command_line.put(WORKSPACES, workspace(ready=True))
    assert command_line.run("endpoint").stdout == "http://127.0.0.1:20004\n"


def test_endpoint_for_programs_has_every_base_url(command_line: CommandLine) -> None:
    command_line.put(WORKSPACES, workspace(ready=True))
    assert json.loads(command_line.run("endpoint", "smollm2", "-o", "json").stdout) == {
        "endpoint": "http://127.0.0.1:20004",
        "chat": "http://127.0.0.1:20004/chat",
        "openai": "http://127.0.0.1:20004/v1",
        "ready": True,
    }


def test_a_name_that_only_pods_resolve_comes_with_the_way_there(command_line: CommandLine) -> None:
    command_line.put(WORKSPACES, workspace(endpoint="http://smollm2.default.svc"))
    result = command_line.run("endpoint")
    assert result.stdout == "http://smollm2.default.svc\n"
    assert "port-forward service/smollm2 8000:80" in result.stderr


def test_a_mistake_is_one_line_and_status_2(command_line: CommandLine) -> None:
    result = command_line.run("endpoint", "nobody")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: there is no Workspace 'nobody'")
    assert result.stderr.count("\n") == 1


def test_what_may_pass_is_status_1(command_line: CommandLine) -> None:
    command_line.cluster.fail_next(ApiUnavailable("the API server\n  did not answer"))
    result = command_line.run("endpoint")
    assert result.exit_code == 1
    assert result.stderr == "error: the API server did not answer\n"


def test_an_error_may_hold_square_brackets(command_line: CommandLine) -> None:
    result = command_line.run("endpoint", "[red]x[/blue]")
    assert "'[red]x[/blue]'" in result.stderr


def test_logs_are_kubectls_with_its_exit_status(
    command_line: CommandLine, script: Callable[[str, str], None], tmp_path: Path
) -> None:
    command_line.put(WORKSPACES, workspace())
    script("kubectl", f'echo "$@" >{tmp_path}/words; exit 3')
    result = command_line.run("logs", "-f", "--tail", "5")
    assert result.exit_code == 3
    words = (tmp_path / "words").read_text().split()
    assert words[2:] == ["logs", "--selector=kaito.sh/workspace=smollm2", "--all-containers", "--tail=5", "--follow"]


def test_logs_of_the_control_plane_are_its_files(command_line: CommandLine, tmp_path: Path) -> None:
    result = command_line.run("logs", "--component", "operator")
    assert result.exit_code == 2
    assert "the control plane was never started there" in result.stderr
    logs = tmp_path / "home" / "logs"
    logs.mkdir(parents=True)
    (logs / "operator.log").write_text("")
    assert command_line.run("logs", "--component", "operator").exit_code == 0


def test_presets_can_be_searched(command_line: CommandLine) -> None:
    lines = command_line.run("presets", "list", "SmolLM2").stdout.splitlines()
    assert lines[0].split() == ["NAME", "WEIGHTS", "CONTEXT", "TUNING", "GATED", "LICENSE"]
    assert lines[1].startswith("smollm2-135m-instruct")
    listed = json.loads(command_line.run("presets", "list", "smollm2", "-o", "json").stdout)
    assert listed[0]["name"] == "smollm2-135m-instruct"


def test_a_preset_is_shown_by_any_of_its_names(command_line: CommandLine) -> None:
    shown = command_line.run("presets", "show", "HuggingFaceTB/SmolLM2-135M-Instruct").stdout
    assert shown.startswith("name: smollm2-135m-instruct\n")
    assert json.loads(command_line.run("presets", "show", "smollm2", "-o", "json").stdout)["license"] == "apache-2.0"


def test_an_unknown_preset_is_refused_with_near_names(command_line: CommandLine) -> None:
    result = command_line.run("presets", "show", "smollm2-135m-instruckt")
    assert result.exit_code == 2
    assert "did you mean smollm2-135m-instruct" in result.stderr


def test_version_names_what_it_stands_on(command_line: CommandLine) -> None:
    versions = json.loads(command_line.run("version", "-o", "json").stdout)
    assert {"kaito-ray", "python", "kubernetes"} <= versions.keys()
    assert command_line.run("version").stdout.startswith("PART")


def test_doctor_fails_when_a_check_does(command_line: CommandLine, script: Callable[[str, str], None]) -> None:
    script("kubectl", "exit 1")
    result = command_line.run("doctor", "-o", "json")
    assert result.exit_code == 1
    judged = {check["name"]: check["level"] for check in json.loads(result.stdout)}
    assert judged["kubectl"] == "FAIL"
    assert judged["python"] == "OK"
    table = command_line.run("doctor").stdout
    assert "FAIL  kubectl" in table
    assert "-> in a checkout `make setup` installs one" in table


def test_doctor_finds_a_home_that_others_can_read(command_line: CommandLine, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    found = json.loads(command_line.run("doctor", "-o", "json", "--home", str(home)).stdout)
    assert next(c for c in found if c["name"] == "home")["remedy"] == f"chmod 700 {home}"


def test_ctrl_c_is_status_130(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    command_line.put(WORKSPACES, workspace())
    assert command_line.run("logs").exit_code == 130
