"""What a lean import leaves out, and that everything is there again afterwards. In processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def _loaded(code: str) -> set[str]:
    """Return the modules of an interpreter that ran `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["kaito_ray.kube.client", "kaito_ray.local.machine"])
def test_our_client_does_not_bring_the_synchronous_half(module: str) -> None:
    loaded = _loaded(f"import {module}")
    assert "kubernetes.aio.client.api_client" in loaded
    assert not loaded & {"kubernetes", "kubernetes.client", "kubernetes.dynamic", "requests", "google.auth"}


def test_the_operator_does_not_bring_it_either() -> None:
    run = "runpy.run_module('kaito_ray.controller', run_name='__main__')"
    help_only = (
        f"import contextlib, runpy, sys\nsys.argv = ['operator', '--help']\nwith contextlib.suppress(SystemExit): {run}"
    )
    loaded = _loaded(help_only)
    assert "kopf" in loaded
    assert not loaded & {"kubernetes", "kubernetes.client", "requests", "google.auth"}


def test_the_whole_package_can_be_imported_afterwards() -> None:
    loaded = _loaded(
        "import kaito_ray.kube.client\nimport kubernetes\n"
        "assert kubernetes.client.V1Pod and kubernetes.config.load_kube_config\n"
        "import kubernetes.aio\nassert kubernetes.aio.client.V1Pod\n"
        "from kaito_ray.kube.official import ApiClient\nassert kubernetes.aio.client.ApiClient is ApiClient"
    )
    assert "kubernetes.client" in loaded


def test_a_package_that_is_hidden_is_missing_only_meanwhile() -> None:
    loaded = _loaded(
        "from kaito_ray.lean import absent\n"
        "with absent('yaml'):\n    try:\n        import yaml\n    except ImportError:\n        pass\n"
        "    else:\n        raise AssertionError\n"
        "import yaml"
    )
    assert "yaml" in loaded
