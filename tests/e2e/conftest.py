"""One control plane of this machine for all of `tests/e2e` that needs one, started as a person would start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KAITO_RAY = Path(sys.executable).with_name("kaito-ray")


@dataclass(frozen=True)
class Plane:
    """A running `kaito-ray up`, driven by the two commands that people use."""

    home: Path

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KAITO_RAY_HOME", "KUBECONFIG"))}
        return {
            **kept,
            "HOME": str(self.home.parent),  # kubectl's own cache
            "KAITO_RAY_HOME": str(self.home),
            "KUBECONFIG": str(self.home / "kubeconfig"),
            "KAITO_RAY_CACHE": os.environ.get("KAITO_RAY_CACHE", str(Path.home() / ".cache" / "kaito-ray")),
        }

    def run(self, *words: str | Path, ok: bool = True, stdin: str = "", timeout_s: float = 600) -> str:
        """Return what the command printed, errors after output."""
        done = subprocess.run(
            words, env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        text = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, f"{words} ended with {done.returncode}:\n{text}"
        return text

    def cli(self, *words: str, ok: bool = True, timeout_s: float = 600) -> str:
        return self.run(KAITO_RAY, *words, ok=ok, timeout_s=timeout_s)

    def kubectl(self, *words: str, ok: bool = True, stdin: str = "", timeout_s: float = 120) -> str:
        return self.run("kubectl", *words, ok=ok, stdin=stdin, timeout_s=timeout_s)

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output=json"))
        return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests must run one after the other in one process: those that share something costly."""
    for item in filter(_is_ours, items):
        item.add_marker(pytest.mark.xdist_group(_shares(item)))


def _is_ours(item: pytest.Item) -> bool:
    """Say whether a test is of this folder: the hook is called with those of every folder that is run along."""
    return Path(__file__).parent in item.path.parents


def _shares(item: pytest.Item) -> str:
    if "quickstarted" in getattr(item, "fixturenames", ()):
        return "quickstarted"
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return folder if folder in ("gate", "serving") else item.path.name


@pytest.fixture(scope="session")
def quickstarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plane, str]]:
    """A control plane after `kaito-ray quickstart`, and what that command printed."""
    plane = Plane(tmp_path_factory.mktemp("machine") / "home")
    try:
        yield plane, plane.cli("quickstart")
    finally:
        plane.cli("down")


@pytest.fixture(scope="session")
def plane(quickstarted: tuple[Plane, str]) -> Plane:
    """A control plane with the Workspace `smollm2` serving."""
    return quickstarted[0]
