"""A command line whose cluster is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kaito_ray.cli import connection, console
from kaito_ray.cli.main import app
from kaito_ray.kube.cluster import Manifest, Resource
from kaito_ray.testing.fake_cluster import FakeCluster


@dataclass
class CommandLine:
    cluster: FakeCluster
    kubeconfig: Path | None

    def run(self, *words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(
            app, list(words), input=input, env={"KUBECONFIG": self.kubeconfig and str(self.kubeconfig)}
        )

    def put(self, resource: Resource, *manifests: Manifest) -> None:
        for manifest in manifests:
            asyncio.run(self.cluster.create(resource, manifest))


@pytest.fixture(autouse=True)
def no_terminal_of_another_test() -> Iterator[None]:
    """Consoles remember the stream that they were made for."""
    console.console.cache_clear()
    yield
    console.console.cache_clear()


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("apiVersion: v1\n")
    monkeypatch.setenv("KAITO_RAY_HOME", str(tmp_path / "home"))
    cluster = FakeCluster()
    monkeypatch.setattr(connection, "connect", lambda target: cluster)
    return CommandLine(cluster, kubeconfig)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script of that name first on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory), prepend=":")

    def make(name: str, body: str) -> None:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    return make
