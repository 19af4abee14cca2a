"""The command line is an interface: its commands, options and words change on purpose only, and docs/cli.md has them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from kaito_ray.cli.conversation import HELP, PARAMETERS
from kaito_ray.cli.main import app
from kaito_ray.cli.reference import HEADING, reference

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
COMMANDS = [
    "quickstart",
    "up",
    "down",
    "status",
    "chat",
    "endpoint",
    "dashboard",
    "logs",
    "upgrade",
    "migrate",
    "plan",
    "render",
    "doctor",
    "version",
    "tune watch",
    "presets list",
    "presets show",
]
COLD_START_S = 0.5
HEAVY = ("pydantic", "yaml", "httpx", "kubernetes", "aiohttp", "prompt_toolkit", "psutil", "ray", "torch", "starlette")


def test_the_commands_are_these() -> None:
    headings = [line for line in reference().splitlines() if line.startswith("### ")]
    found = [line.split("`")[1].removeprefix("kaito-ray ") for line in headings]
    assert [" ".join(w for w in words.split() if w.islower()) for words in found] == COMMANDS


def test_the_page_has_every_option_with_its_words() -> None:
    _, heading, rest = PAGE.partition(HEADING)
    assert heading + rest == reference(), (
        "docs/cli.md is behind: replace its end by `python -m kaito_ray.cli.reference`"
    )


def test_the_page_has_every_slash_command_and_parameter() -> None:
    for name in HELP:
        assert f"`{name.split()[0]}" in PAGE
    for name in PARAMETERS:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("command", ["", *COMMANDS, "presets"])
def test_every_command_helps(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Usage: kaito-ray {command}".rstrip() in " ".join(result.stdout.split())


def test_every_option_has_words() -> None:
    def check(command: object) -> None:
        for parameter in getattr(command, "params", ()):
            assert parameter.help, f"{parameter.name} of {command}"
        for child in getattr(command, "commands", {}).values():
            check(child)

    check(typer.main.get_command(app))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from kaito_ray.cli.main import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert loaded == "[]"


def test_help_answers_at_once() -> None:
    """Measured in CPU time, and the best of three: the machine may be busy with something else."""

    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "kaito_ray.cli.main", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(measure() for _ in range(3)) < COLD_START_S


def test_completion_suggests_commands() -> None:
    env = {"_KAITO_RAY_COMPLETE": "complete_bash", "COMP_WORDS": "kaito-ray da", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], prog_name="kaito-ray", env=env)
    assert result.stdout.split() == ["dashboard"]
