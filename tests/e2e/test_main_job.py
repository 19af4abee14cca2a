"""The first thing a person does: apply a Workspace on one machine, and chat with the model it names.

The tests of this file share one control plane and one model, and go in order: the last ones change and delete it.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI

from kaito_ray.local.ray_head import MARKER as RAY_MARKER
from tests.e2e.conftest import Plane

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[2] / "examples" / "inference"


def test_the_quick_start_prints_both_answers(quickstarted: tuple[Plane, str]) -> None:
    printed = quickstarted[1]
    for route in ("/chat", "/v1/chat/completions"):
        assert re.search(rf"^\s*{re.escape(route)} .*Paris", printed, re.MULTILINE), printed
    assert "kaito-ray down" in printed


def test_kubectl_prints_the_columns_of_the_quick_start(plane: Plane) -> None:
    header, row = plane.kubectl("get", "workspace", "smollm2").splitlines()
    assert header.split() == ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    assert re.fullmatch(r"smollm2 +local +True +True +True +\S+", row), row


def test_the_status_says_what_a_person_asks(plane: Plane) -> None:
    status = plane.get("workspace", "smollm2")["status"]
    assert status["state"] == "Ready"
    assert status["plan"]["device"] == "cpu"
    assert status["plan"]["why"]
    assert status["endpoint"].startswith("http://127.0.0.1:")
    ready = {c["type"]: c["status"] for c in status["conditions"]}
    assert ready["ResourceReady"] == ready["InferenceReady"] == ready["WorkspaceReady"] == "True"
    assert ready["WorkspaceSucceeded"] == "True"


def test_the_machine_shows_its_true_capacity(plane: Plane) -> None:
    (node,) = plane.get("nodes")["items"]
    assert int(node["status"]["capacity"]["cpu"]) == psutil.cpu_count()
    assert "nvidia.com/gpu" not in {k for k, v in node["status"]["capacity"].items() if v != "0"}


def test_pods_can_be_listed_described_and_read(plane: Plane) -> None:
    (pod,) = plane.get("pods")["items"]
    name = pod["metadata"]["name"]
    assert re.search(rf"{name} +1/1 +Running", plane.kubectl("get", "pods"))
    assert "ray.io/node-type=head" in plane.kubectl("describe", "pod", name)
    log = plane.kubectl("logs", name)
    assert "vllm" in log.lower()
    assert "capital of France" not in log, "prompts must not be logged"


def test_events_tell_the_story(plane: Plane) -> None:
    described = plane.kubectl("describe", "workspace", "smollm2")
    assert "Events:" in described
    assert plane.get("events", "--field-selector=involvedObject.name=smollm2")["items"]


def test_kubectl_explains_our_fields(plane: Plane) -> None:
    assert "adapters" in plane.kubectl("explain", "workspace.inference")


def test_the_official_client_works(plane: Plane) -> None:
    endpoint = plane.cli("endpoint", "smollm2").strip()
    client = OpenAI(base_url=f"{endpoint}/v1", api_key="none")
    (model,) = client.models.list().data
    assert model.id == "smollm2-135m-instruct"
    answer = client.chat.completions.create(
        model=model.id,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=24,
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_the_command_line_chats(plane: Plane) -> None:
    assert "Paris" in plane.cli("chat", "smollm2", "--temperature=0", "--message", "What is the capital of France?")


def test_only_a_port_that_wants_rays_token_is_not_on_loopback(plane: Plane) -> None:
    """That the gRPC port of a replica wants the token is shown in `local/test_machine.py`; ADR 8 says why it is wide."""
    ours = [p for p in psutil.process_iter() if _belongs(p, plane.home)]
    assert ours
    wide = [
        process.cmdline()[0]
        for process in ours
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    ]
    assert [name for name in wide if not name.startswith("ray::ServeReplica")] == []


def test_a_manifest_with_an_unknown_model_is_refused_at_admission(plane: Plane) -> None:
    manifest = (EXAMPLES / "workspace_smollm2.yaml").read_text()
    wrong = manifest.replace("name: smollm2\n", "name: wrong\n", 1).replace("smollm2-135m-instruct", "smollm2-135m")
    refusal = plane.kubectl("apply", "-f", "-", ok=False, stdin=wrong)
    assert "inference.preset.name" in refusal
    assert "smollm2-135m-instruct" in refusal


def test_applying_again_changes_nothing(plane: Plane) -> None:
    before = plane.get("rayservice", "smollm2")["metadata"]["resourceVersion"]
    said = plane.kubectl("apply", "-f", str(EXAMPLES / "workspace_smollm2.yaml"))
    assert "unchanged" in said or "configured" in said
    time.sleep(3)  # long enough for the operator to look
    assert plane.get("rayservice", "smollm2")["metadata"]["resourceVersion"] == before


def test_a_second_control_plane_in_the_same_home_is_refused(plane: Plane) -> None:
    assert str(plane.home) in plane.cli("up", "--detach", ok=False)


def test_a_model_that_cannot_fit_says_so(plane: Plane) -> None:
    manifest = (EXAMPLES / "workspace_smollm2.yaml").read_text()
    big = manifest.replace("smollm2-135m-instruct", "llama-3.3-70b-instruct").replace(
        "name: smollm2\n", "name: big\n", 1
    )
    big = big.replace(
        "llama-3.3-70b-instruct", "llama-3.3-70b-instruct\n    presetOptions:\n      modelAccessSecret: hf-token"
    )
    plane.kubectl("apply", "-f", "-", stdin=big)
    plane.kubectl(
        "wait",
        "workspace/big",
        "--for=jsonpath={.status.conditions[?(@.type=='WorkspaceReady')].reason}=DoesNotFit",
        "--timeout=60s",
    )
    plane.kubectl("delete", "workspace", "big", "--timeout=60s")


def test_the_whole_of_it_survives_a_kill_of_every_process_of_ours(plane: Plane) -> None:
    endpoint = plane.cli("endpoint", "smollm2").strip()
    state = json.loads(plane.cli("status", "--output", "json"))
    pids = _pids(state)
    assert len(pids) >= 3
    for pid in pids:
        psutil.Process(pid).kill()
    plane.cli("up", "--detach")
    plane.kubectl("wait", "workspace/smollm2", "--for=condition=WorkspaceReady", "--timeout=180s", timeout_s=200)
    answer = httpx.post(
        f"{plane.cli('endpoint', 'smollm2').strip()}/chat",
        json={
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "generate_kwargs": {"temperature": 0},
        },
        timeout=60,
    )
    assert "Paris" in answer.json()["Result"]
    assert plane.cli("endpoint", "smollm2").strip() == endpoint, "the address is kept"


def test_deleting_leaves_nothing(plane: Plane) -> None:
    plane.kubectl("delete", "workspace", "smollm2", "--timeout=120s", timeout_s=150)
    for kind in ("rayservices", "rayclusters", "pods", "nodepools", "nodeclaims"):
        deadline = time.monotonic() + 30
        while (left := plane.get(kind, "--all-namespaces")["items"]) and time.monotonic() < deadline:
            time.sleep(1)
        assert not left, kind
    assert not [p for p in psutil.process_iter() if _belongs(p, plane.home) and RAY_MARKER in p.environ()]


def test_down_leaves_no_process(plane: Plane) -> None:
    plane.cli("down")
    assert not [p for p in psutil.process_iter() if _belongs(p, plane.home)]


def _belongs(process: psutil.Process, home: Path) -> bool:
    """Whether a process was started by the control plane in `home`: every one inherits where it lives."""
    try:
        return process.environ().get("KAITO_RAY_HOME") == str(home) and process.name() != "pytest"
    except psutil.Error:
        return False


def _pids(state: object) -> list[int]:
    """Return every `pid` in a JSON document."""
    if isinstance(state, dict):
        mine = [state["pid"]] if isinstance(state.get("pid"), int) else []
        return mine + [pid for value in state.values() for pid in _pids(value)]
    return [pid for value in state for pid in _pids(value)] if isinstance(state, list) else []
