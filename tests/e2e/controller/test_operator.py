"""The operator as a process against the embedded API server, with the real kubectl. The test plays the machine.

No Ray is started, so these take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.api.crd import crd
from kaito_ray.local import crds
from kaito_ray.testing.builders import TUNING, node, ready_ray_service_status, workspace
from tests.apiserver import ApiServer, running

CRDS = Path(crds.__file__).parent


class Operator:
    """An operator process, and what a person with kubectl sees."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "kaito_ray.controller", "--kubeconfig", str(self.server.kubeconfig)]
        command += ["--identity", "one"]  # the next one is its successor
        with (self.server.home / "operator.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--provider", "local"], stdout=log, stderr=log)
        self.until(lambda: self.kubectl("get", "lease", "kaito-ray-operator", ok=None).returncode == 0)
        self.until(lambda: bool(self.get("validatingwebhookconfigurations")["items"]))

    def stop(self) -> int:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kubectl(self, *arguments: str, stdin: str = "", ok: bool | None = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.server.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ok is None or (done.returncode == 0) is ok, done.stdout + done.stderr
        return done

    def apply(self, manifest: dict[str, Any], *, ok: bool = True) -> str:
        done = self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest), ok=ok)
        return done.stdout + done.stderr

    def get(self, *what: str) -> Any:
        return json.loads(self.kubectl("get", *what, "-o", "json").stdout)

    def set_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def until(self, holds: Callable[[], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, (self.server.home / "operator.log").read_text()[-3000:]
            time.sleep(0.1)

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        conditions = self.get("workspace", name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with running(tmp_path_factory.mktemp("operator")) as server:
        found = Operator(server)
        for manifest in (crd(), *(json.loads(path.read_text()) for path in sorted(CRDS.glob("*.json")))):
            found.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        here = node()
        found.kubectl("create", "-f", "-", stdin=json.dumps(here))
        found.set_status("node", "node-a", here["status"])
        found.start()
        yield found
        assert found.stop() == 0


def named(name: str, **changes: Any) -> dict[str, Any]:
    return workspace(**{**changes, "metadata": {"name": name, **changes.get("metadata", {})}})


def test_a_workspace_becomes_ready_and_goes_without_a_trace(operator: Operator) -> None:
    operator.apply(named("one"))
    operator.until(lambda: bool(operator.get("rayservices")["items"]))
    claim = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": "claim",
            "labels": {
                "karpenter.sh/nodepool": "default-one",
                "kaito.sh/workspace": "one",
                "kaito.sh/workspacenamespace": "default",
            },
        },
        "spec": operator.get("nodepool", "default-one")["spec"]["template"]["spec"],
    }
    operator.kubectl("create", "-f", "-", stdin=json.dumps(claim))
    ready = [
        {"type": t, "status": "True", "reason": t, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for t in ("Launched", "Registered", "Initialized", "Ready")
    ]
    operator.set_status("nodeclaim", "claim", {"nodeName": "node-a", "conditions": ready})
    served = ready_ray_service_status("one-abcde")
    served["conditions"][0] |= {"message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    operator.set_status("rayservice", "one", served)
    ingress = [{"ip": "127.0.0.1", "ports": [{"port": 31000, "protocol": "TCP"}]}]
    operator.set_status("service", "one", {"loadBalancer": {"ingress": ingress}})
    operator.until(lambda: operator.condition("one", "WorkspaceReady").get("status") == "True")
    header, row = operator.kubectl("get", "workspace", "one", "-o", "wide").stdout.splitlines()
    assert header.split()[:6] == ["NAME", "INSTANCE", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "AGE"]
    assert "http://127.0.0.1:31000" in row

    operator.kubectl("delete", "nodeclaim", "claim")
    operator.kubectl("delete", "workspace", "one", "--timeout=20s")
    for kind in ("rayservices", "nodepools", "services", "secrets"):
        operator.until(lambda kind=kind: operator.get(kind)["items"] == [])  # type: ignore[misc]


def test_a_child_that_is_deleted_by_hand_comes_back(operator: Operator) -> None:
    operator.apply(named("two"))
    operator.until(lambda: operator.kubectl("get", "service", "two", ok=None).returncode == 0)
    uid = operator.get("service", "two")["metadata"]["uid"]
    operator.kubectl("delete", "service", "two")
    operator.until(lambda: operator.kubectl("get", "service", "two", ok=None).returncode == 0)
    assert operator.get("service", "two")["metadata"]["uid"] != uid
    operator.kubectl("delete", "workspace", "two", "--timeout=20s")


def test_a_config_that_appears_later_is_noticed(operator: Operator) -> None:
    operator.apply(named("three", inference={"config": "options"}))
    operator.until(lambda: operator.condition("three", "InferenceReady").get("reason") == "ConfigMapNotFound")
    data = {"inference_config.yaml": yaml.safe_dump({"vllm": {"max-model-len": 1024}})}
    operator.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "options"}, "data": data})
    operator.until(lambda: operator.kubectl("get", "rayservice", "three", ok=None).returncode == 0)
    assert "max_model_len: 1024" in operator.get("rayservice", "three")["spec"]["serveConfigV2"]
    operator.kubectl("delete", "workspace", "three", "--timeout=20s")


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
def test_admission_refuses_in_both_versions_with_every_reason(operator: Operator, version: str) -> None:
    tuning = {**TUNING, "output": {"image": "ACR_REPO_HERE.azurecr.io/a:1", "imagePushSecret": "s"}, "method": "full"}
    told = operator.apply(named("four", apiVersion=f"kaito.sh/{version}", inference=None, tuning=tuning), ok=False)
    assert "ACR_REPO_HERE is a placeholder" in told
    assert "tuning.method" in told


def test_what_cannot_be_had_from_this_operator_is_admitted_and_says_so(operator: Operator) -> None:
    operator.apply(named("five", resource={"partition": {"mode": "accelerator", "count": 1}}))
    operator.until(lambda: "provisioner byo" in operator.condition("five", "InferenceReady").get("message", ""))
    assert "provisioner byo" in operator.kubectl("describe", "workspace", "five").stdout
    operator.kubectl("delete", "workspace", "five", "--timeout=20s")


def test_an_idle_operator_writes_nothing_but_its_lease(operator: Operator) -> None:
    operator.apply(named("six"))
    operator.until(lambda: operator.get("workspace", "six").get("status", {}).get("reason", "").startswith("waiting"))

    def versions() -> list[str]:
        kinds = "workspaces,rayservices,nodepools,services,secrets,events"
        return [item["metadata"]["resourceVersion"] for item in operator.get(kinds)["items"]]

    time.sleep(1)
    before = versions()
    operator.kubectl("annotate", "node", "node-a", "touched=yes")  # wakes every Workspace
    time.sleep(1)
    assert versions() == before
    operator.kubectl("delete", "workspace", "six", "--timeout=20s")


def test_it_outlives_a_crash_of_the_api_server(operator: Operator) -> None:
    operator.server.kill()
    operator.server.start()
    operator.apply(named("seven"))
    operator.until(lambda: operator.kubectl("get", "rayservice", "seven", ok=None).returncode == 0, within_s=40)
    operator.kubectl("delete", "workspace", "seven", "--timeout=20s")


def test_what_was_deleted_while_it_was_away_is_finished_when_it_is_back(operator: Operator) -> None:
    operator.apply(named("eight"))
    operator.until(lambda: operator.kubectl("get", "rayservice", "eight", ok=None).returncode == 0)
    assert operator.process is not None
    operator.process.kill()
    operator.process.wait()
    operator.kubectl("delete", "workspace", "eight", "--wait=false")
    assert operator.get("workspace", "eight")["metadata"]["deletionTimestamp"]
    operator.start()
    operator.until(lambda: operator.kubectl("get", "workspace", "eight", ok=None).returncode != 0)


def test_a_kind_that_is_installed_later_makes_it_start_again(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        early = Operator(server)
        early.kubectl("create", "-f", "-", stdin=json.dumps(crd()))
        early.start()
        early.apply(named("nine"))
        here = node()
        early.kubectl("create", "-f", "-", stdin=json.dumps(here))
        early.set_status("node", "node-a", here["status"])
        early.until(lambda: early.condition("nine", "InferenceReady").get("reason") == "ApiRefused")
        for path in sorted(CRDS.glob("*.json")):
            early.kubectl("create", "-f", "-", stdin=path.read_text())
        assert early.process is not None
        assert early.process.wait(timeout=30) == 0
        early.start()
        early.until(lambda: early.kubectl("get", "rayservice", "nine", ok=None).returncode == 0)
        assert early.stop() == 0
