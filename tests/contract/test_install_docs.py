"""docs/install.md: each helm command of the page renders, and the versions are those that the product says elsewhere."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.render.inputs import RAY_VERSION
from tests.chart import CHART, EVERYWHERE, render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if re.match(r"helm (install|template) kaito-ray", line)
]


def values(command: str) -> dict[str, Any]:
    """Return what `--set` says, as far as the page uses its grammar: paths, words and lists."""
    found: dict[str, Any] = {}
    words = shlex.split(command)
    for flag, setting in itertools.pairwise(words):
        if flag == "--set":
            path, _, text = setting.partition("=")
            *parents, last = path.split(".")
            into = found
            for key in parents:
                into = into.setdefault(key, {})
            into[last] = text[1:-1].split(",") if text.startswith("{") else yaml.safe_load(text)
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_renders(command: str) -> None:
    assert {"Deployment", "CustomResourceDefinition"} <= {m["kind"] for m in render(values(command))}


def test_the_page_has_a_command_for_each_kind_of_cluster() -> None:
    said = [values(command) for command in COMMANDS]
    assert {"provider": "azure"}.items() <= said[1].items()
    assert any(one.get("provisioner") == "byo" for one in said)


def test_values_that_the_page_names_exist() -> None:
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"--set '?([A-Za-z.]+)=", PAGE):
        found = known
        for key in path.split("."):
            assert key in found, path
            found = found[key]
    assert render({**EVERYWHERE, "policies": {"team-a": {"instanceTypes": ["Standard_NC24ads_A100_v4"], "gpus": 8}}})


def test_files_that_the_page_names_exist() -> None:
    for path in re.findall(r"(?:examples|tests|docs)/[\w/.-]+\.(?:yaml|py|md)", PAGE):
        assert (ROOT / path).is_file(), path


def test_the_versions_are_ours() -> None:
    assert f"| Ray in the worker image | {RAY_VERSION} |" in PAGE
    assert f"ray-llm:{RAY_VERSION}" in (ROOT / "Dockerfile").read_text()
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == ">=1.30.0-0"
