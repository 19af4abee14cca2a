"""LiteLLM and LangChain, as people use them, against the application; installed apart, pinned with hashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.serving.conftest import PRESET
from tests.e2e.serving.serve import Served

pytestmark = pytest.mark.engine

CLIENTS = Path(__file__).with_name("clients")
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with both clients."""
    place = tmp_path_factory.mktemp("clients") / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, place)
    python = place / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", CLIENTS / "requirements.lock")
    return python


def test_each_client_hears_the_capital_of_france_whole_and_streamed(python: Path, served: Served) -> None:
    answers = json.loads(run(python, CLIENTS / "ask.py", f"{served.url}/v1", PRESET).splitlines()[-1])
    assert len(answers) == 4
    assert all("Paris" in answer for answer in answers.values()), answers


def run(*command: str | Path) -> str:
    # LiteLLM would fetch a list of prices; the clients must not know of whoever else is configured here.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LANGSMITH_", "LANGCHAIN_"))}
    environment = {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
