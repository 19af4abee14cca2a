"""The command line over a model that serves: what unit tests say of fakes holds for the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.e2e.conftest import KAITO_RAY, Plane

pytestmark = pytest.mark.engine

QUESTION = "What is the capital of France?"


def test_status_knows_the_processes_and_the_workspace(plane: Plane) -> None:
    found = json.loads(plane.cli("status", "--output", "json"))
    assert {part["name"] for part in found["controlPlane"]["parts"] if part["running"]} == {
        "apiserver",
        "machine",
        "operator",
    }
    (workspace,) = [w for w in found["workspaces"] if w["name"] == "smollm2"]
    assert workspace["ready"] is True
    assert workspace["endpoint"] == plane.cli("endpoint", "smollm2").strip()


def test_the_only_ready_workspace_needs_no_name(plane: Plane) -> None:
    assert "Paris" in plane.cli("chat", "--message", QUESTION, "--temperature", "0", "--max-tokens", "16")


def test_an_answer_streams(plane: Plane) -> None:
    """It comes in many pieces, and not in one when all is written."""
    words = [KAITO_RAY, "chat", "smollm2", "-m", "Count from 1 to 60.", "--temperature", "0", "--max-tokens", "150"]
    with subprocess.Popen(words, env=plane.env, stdout=subprocess.PIPE) as chat:
        assert chat.stdout is not None
        pieces = list(iter(lambda: os.read(chat.stdout.fileno(), 65536), b""))
    assert chat.returncode == 0
    assert len(pieces) > 10


def test_a_refusal_of_the_model_is_told_in_its_words(plane: Plane) -> None:
    refusal = plane.cli("chat", "smollm2", "-m", QUESTION, "--max-tokens", "-1", ok=False)
    assert "/v1/chat/completions answered 400" in refusal
    assert "max_tokens" in refusal


def test_logs_are_those_of_the_pod_and_of_the_control_plane(plane: Plane) -> None:
    assert "vllm" in plane.cli("logs", "smollm2", "--tail", "-1")
    assert "kaito-ray operator" in plane.cli("logs", "--component", "operator")


def test_doctor_finds_the_control_plane_in_order(plane: Plane) -> None:
    done = subprocess.run(
        [KAITO_RAY, "doctor", "-o", "json"], env=plane.env, capture_output=True, text=True, check=False
    )
    level = {check["name"]: check["level"] for check in json.loads(done.stdout)}
    assert {level[name] for name in ("engine", "kubectl", "home", "ports", "control plane", "leftovers")} == {"OK"}


def test_ctrl_c_ends_a_watch_with_130(plane: Plane) -> None:
    # A shell starts what it puts in the background with Ctrl-C ignored, these tests perhaps too.
    words = ["env", "--default-signal=INT", KAITO_RAY, "status", "--watch"]
    with subprocess.Popen(words, env=plane.env, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stderr is not None
        assert "name=smollm2" in watch.stderr.readline()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 130


def test_the_quick_start_again_uses_what_is_there(plane: Plane) -> None:
    printed = plane.cli("quickstart")
    assert f"runs already in {plane.home}" in printed
    assert "workspace.kaito.sh/smollm2 unchanged" in printed
    assert "Paris" in printed
