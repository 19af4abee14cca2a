"""What an API server does, seen through kubectl and the official Python client alone.

The embedded server by default; any cluster whose kubeconfig is named by KAITO_RAY_CONFORMANCE_KUBECONFIG. Only
namespaces and CRDs of our own are touched, and they are removed again. For webhooks, a cluster must reach this machine:
KAITO_RAY_CONFORMANCE_HOST names it (by default 127.0.0.1).
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from tests.apiserver import running

CLUSTER = os.environ.get("KAITO_RAY_CONFORMANCE_KUBECONFIG")
GROUP = f"conformance-{secrets.token_hex(3)}.kaito-ray.dev"

# What only a server of our own can be asked to do: to crash, to forget, to refuse what it does not have.
collect_ignore = ["embedded"] if CLUSTER else []

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against the cluster under test; `out` is what it printed, `err` what it complained."""

    kubeconfig: Path
    cache: Path
    namespace: str = "default"

    def __call__(self, *words: str, stdin: str | None = None, fails: bool = False) -> Answer:
        done = self.run(*words, stdin=stdin)
        assert (done.returncode != 0) is fails, f"kubectl {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return Answer(done.stdout, done.stderr)

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command(), *words], input=stdin or "", capture_output=True, text=True, timeout=60, check=False
        )

    def command(self) -> list[str]:
        options = ("--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.cache), "-n", self.namespace)
        return ["kubectl", *options]

    def apply(self, manifest: Manifest | str, *words: str, fails: bool = False) -> Answer:
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        return self("apply", "-f", "-", *words, stdin=text, fails=fails)

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json").out)


@dataclass(frozen=True)
class Answer:
    out: str
    err: str


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if CLUSTER:
        yield Path(CLUSTER)
        return
    with running(tmp_path_factory.mktemp("apiserver")) as server:
        yield server.kubeconfig


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    made = config.new_client_from_config(config_file=str(kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()


@pytest.fixture(scope="session")
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture(scope="session")
def raw(api: client.ApiClient) -> Raw:
    return Raw(api)


@pytest.fixture
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    name = f"conformance-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    eventually(lambda: core.list_namespaced_service_account(name).items)
    yield name
    with suppress(client.ApiException):  # the test may have deleted it
        core.delete_namespace(name)


@pytest.fixture
def kubectl(kubeconfig: Path, kubectl_cache: Path, namespace: str) -> Kubectl:
    return Kubectl(kubeconfig, kubectl_cache, namespace)


@pytest.fixture(scope="session")
def kubectl_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kubectl")


@pytest.fixture(scope="session")
def widgets(raw: Raw) -> Iterator[str]:
    """The path of a CRD that has a bit of everything: `/apis/GROUP/v1`."""
    with installed(raw, widget_crd()):
        yield f"/apis/{GROUP}/v1"


class Raw:
    """Requests by path, for what the typed client hides: bodies as they are, and headers."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        type: str = "application/json",
        accept: str = "",
        **query: str,
    ) -> Manifest:
        status, answer, _ = self.full(method, path, body, type=type, accept=accept, **query)
        assert status < 400, answer
        return answer

    def refused(
        self, method: str, path: str, body: Any = None, *, type: str = "application/json", **query: str
    ) -> Manifest:
        status, answer, _ = self.full(method, path, body, type=type, **query)
        assert status >= 400, answer
        assert answer["code"] == status
        return answer

    def full(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        type: str = "application/json",
        accept: str = "",
        **query: str,
    ) -> tuple[int, Manifest, Any]:
        text = body if isinstance(body, str | None) else json.dumps(body)
        url = self._api.configuration.host + path
        headers = {"Content-Type": type, "Accept": accept or "application/json"}
        self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, text)
        pool = self._api.rest_client.pool_manager
        query_text = "&".join(f"{key}={value}" for key, value in query.items())
        response = pool.request(method, f"{url}?{query_text}" if query_text else url, body=text, headers=headers)
        data = response.data.decode()
        try:
            return response.status, json.loads(data), response.headers
        except ValueError:
            return response.status, {"text": data}, response.headers


class installed:  # noqa: N801 - reads as a word in `with installed(...)`
    """A CRD that exists, and is served, for the length of a `with` block."""

    def __init__(self, raw: Raw, crd: Manifest) -> None:
        self._raw = raw
        self._crd = crd
        self._path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"

    def __enter__(self) -> None:
        self._raw("POST", self._path.rpartition("/")[0], self._crd)
        eventually(self._served)

    def _served(self) -> bool:
        spec = self._crd["spec"]
        return all(
            self._raw.full("GET", f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}")[0] == 200
            for version in spec["versions"]
        )

    def __exit__(self, *_: object) -> None:
        self._raw("DELETE", self._path)
        eventually(lambda: self._raw.full("GET", self._path)[0] == 404)


def eventually(check: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Return the first true answer of `check`."""
    deadline = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


def widget(name: str = "a", **spec: Any) -> Manifest:
    return {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 3, **spec}}


def widget_crd() -> Manifest:
    spec = {
        "type": "object",
        "description": "What is wanted.",
        "required": ["size"],
        "x-kubernetes-validations": [
            {"rule": "!has(oldSelf.color) || self.color == oldSelf.color", "message": "color is immutable"},
            {
                "rule": "!has(self.low) || self.low <= self.size",
                "messageExpression": "'low must not exceed ' + string(self.size)",
            },
        ],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10, "description": "How big it is."},
            "low": {"type": "integer"},
            "color": {"type": "string", "enum": ["red", "green"]},
            "mode": {"type": "string", "default": "fast"},
            "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "parts": {
                "type": "array",
                "maxItems": 3,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
                },
            },
            "when": {"type": "string", "format": "date-time"},
        },
    }
    status = {
        "type": "object",
        "properties": {
            "phase": {"type": "string"},
            "conditions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in ("type", "status", "reason", "message")},
                },
            },
        },
    }
    schema = {"type": "object", "description": "A widget.", "properties": {"spec": spec, "status": status}}
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    version = {
        "served": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
    }
    names = {"kind": "Widget", "plural": "widgets", "shortNames": ["wdg"], "categories": ["conformance"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {"name": "v1", "storage": True, **version},
                {"name": "v1alpha1", "storage": False, "deprecated": True, **version},
            ],
        },
    }
