"""Every request that the operator sends to a real API server is one that the chart's roles allow."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from kaito_ray.api.crd import crd
from kaito_ray.testing.builders import TUNING, adapter, node, workspace
from tests.apiserver import running
from tests.chart import EVERYWHERE, NAMESPACE, Request, allowed, one, render
from tests.e2e.controller.test_operator import CRDS, Operator

ROOT = Path(__file__).parents[3]
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def request(line: str) -> Request | None:
    """Return what the authorizer sees; None for discovery, which everybody may do."""
    method, _, path = line.partition(" ")
    path, _, watching = path.partition("?")
    found = PATH.fullmatch(path)
    if found is None:
        return None
    verb = VERBS.get(method) or ("watch" if watching else "get" if found["name"] else "list")
    plural = found["plural"] + (f"/{found['sub']}" if found["sub"] else "")
    return Request(verb, found["group"] or "", plural, found["namespace"] or "", found["name"] or "")


def test_the_chart_allows_every_request_of_a_whole_life(tmp_path: Path) -> None:
    log = tmp_path / "requests"
    with running(tmp_path / "home") as server:
        person = Operator(server)
        for manifest in (crd(), *(json.loads(path.read_text()) for path in sorted(CRDS.glob("*.json")))):
            person.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        person.kubectl("create", "namespace", NAMESPACE)
        here = node()
        person.kubectl("create", "-f", "-", stdin=json.dumps(here))
        person.set_status("node", "node-a", here["status"])
        # As the chart installs it, but for the Service that no kube-proxy carries out here.
        hooks = one(render(EVERYWHERE), "ValidatingWebhookConfiguration")
        person.apply({**hooks, "webhooks": []})

        command = [sys.executable, "-m", "tests.recorded_operator", str(log), "--kubeconfig", str(server.kubeconfig)]
        options = ["--provider", "local", "--lease-namespace", NAMESPACE]
        with (server.home / "operator.log").open("ab") as out:
            process = subprocess.Popen([*command, *options], stdout=out, stderr=out, cwd=ROOT)
        try:
            config = {"inference_config.yaml": "vllm:\n  max-model-len: 1024\n"}
            person.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "options"}, "data": config})
            secret = {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}}
            for name in ("pull", "push"):
                person.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **secret})
            pulled = adapter("mine", source={"imagePullSecrets": ["pull"]})
            served = workspace(metadata={"name": "served"}, inference={"config": "options", "adapters": [pulled]})
            person.until(lambda: bool(person.get("validatingwebhookconfigurations", "kaito-ray").get("webhooks")))
            person.apply(served)
            person.apply(workspace(metadata={"name": "tuned"}, inference=None, tuning=TUNING))
            for name, kind in (("served", "rayservice"), ("tuned", "rayjob")):
                person.until(
                    lambda name=name, kind=kind: (  # type: ignore[misc]
                        person.kubectl("get", kind, name, ok=None).returncode == 0
                        and bool(person.get("workspace", name).get("status"))
                    ),
                    60,
                )
            person.kubectl("delete", "workspace", "served", "tuned", "--timeout=60s")
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(timeout=30)
    asked = {found for line in log.read_text().splitlines() if (found := request(line))}
    assert {(r.verb, r.resource) for r in asked} >= {
        *(("create", "rayservices"), ("create", "rayjobs"), ("create", "events"), ("delete", "nodepools")),
        *(("watch", "secrets"), ("update", "workspaces/status"), ("update", "leases")),
    }
    roles = render(EVERYWHERE)
    assert [r for r in asked if not allowed(roles, r)] == []
