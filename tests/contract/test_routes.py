"""docs/routes.md lists what vLLM's app and our routes are together; `tests/e2e/serving` asks a running one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.e2e.serving.routes import documented

PROGRAM = """
import json, sys
from types import SimpleNamespace
from deployments.routes import adapters, chat, health, models, startup
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "none"])
encoder = SimpleNamespace(get_pooling_task=lambda tasks: "embed", architecture="", hf_config=SimpleNamespace())
found = {}
for name, task in (("text", "generate"), ("embedding", "embed")):
    app = build_app(arguments, supported_tasks=(task,), model_config=encoder)
    for ours in (adapters, chat, health, models, startup):
        app.include_router(ours.router)
    paths = app.openapi()["paths"]
    found[name] = [[method.upper(), path] for path, methods in paths.items() for method in methods]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def apps() -> dict[str, set[tuple[str, str]]]:
    """The routes of both apps, without an engine; in a process of its own, for vLLM is heavy."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: {(method, path) for method, path in routes} for name, routes in found.items()}


@pytest.mark.parametrize("models", ["text", "embedding"])
def test_the_page_lists_every_route_and_no_other(apps: dict[str, set[tuple[str, str]]], models: str) -> None:
    assert apps[models] == documented(models)
