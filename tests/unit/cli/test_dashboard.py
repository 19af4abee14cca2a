from __future__ import annotations

import base64
import json

import pytest

from kaito_ray.cli.dashboard import NoDashboard, locate
from kaito_ray.kube.cluster import PODS, SECRETS, WORKSPACES

from .builders import head_pod, workspace
from .conftest import CommandLine


def test_a_pod_on_this_machine_says_its_port() -> None:
    found = locate("smollm2", [head_pod()])
    assert (found.url, found.forwarded) == ("http://127.0.0.1:20001", False)


def test_a_pod_of_a_cluster_needs_a_forward() -> None:
    found = locate("smollm2", [head_pod(host_port=None)])
    assert (found.url, found.forwarded) == ("http://127.0.0.1:8265", True)


def test_while_two_clusters_swap_the_newest_is_shown() -> None:
    old = head_pod(created="2026-01-01T00:00:00Z", cluster="old")
    new = head_pod(created="2026-01-02T00:00:00Z", cluster="new")
    assert locate("smollm2", [new, old]).ray_cluster == "new"


@pytest.mark.parametrize("pods", [[], [head_pod(phase="Pending")]])
def test_no_running_head_is_told(pods: list[dict[str, object]]) -> None:
    with pytest.raises(NoDashboard, match="no Ray cluster runs for Workspace 'smollm2' yet"):
        locate("smollm2", pods)


@pytest.fixture
def serving(command_line: CommandLine) -> CommandLine:
    command_line.put(WORKSPACES, workspace(ready=True))
    command_line.put(PODS, head_pod())
    token = base64.b64encode(b"t0ken").decode()
    command_line.put(SECRETS, {"metadata": {"name": "smollm2-abcde"}, "data": {"auth_token": token}})
    return command_line


def test_the_url_is_printed_and_the_token_is_not(serving: CommandLine) -> None:
    result = serving.run("dashboard")
    assert result.stdout == "http://127.0.0.1:20001\n"
    assert "kaito-ray dashboard --token" in result.stderr
    assert "t0ken" not in result.output


def test_the_token_alone_is_printed_on_request(serving: CommandLine) -> None:
    assert serving.run("dashboard", "--token").stdout == "t0ken\n"


def test_programs_get_the_names_of_pod_and_cluster(serving: CommandLine) -> None:
    assert json.loads(serving.run("dashboard", "-o", "json").stdout) == {
        "url": "http://127.0.0.1:20001",
        "ray_cluster": "smollm2-abcde",
        "pod": "smollm2-abcde-head-xyz12",
        "forwarded": False,
    }


def test_a_cluster_without_a_token_is_told(command_line: CommandLine) -> None:
    command_line.put(WORKSPACES, workspace(ready=True))
    command_line.put(PODS, head_pod())
    result = command_line.run("dashboard", "--token")
    assert result.exit_code == 2
    assert "Secret 'smollm2-abcde' with key 'auth_token' is not there" in result.stderr
