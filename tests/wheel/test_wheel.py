"""The built wheel, installed outside the checkout, carries all it needs: presets, CRDs, the operator and the server."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; its dependencies are those of this environment."""
    work = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, ROOT],
        check=True,
        capture_output=True,
    )
    home = work / "env"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python3*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, *work.glob("*.whl")],
        check=True,
        capture_output=True,
    )
    # Our dependencies come from here, but not our own checkout: its editable hook is a .pth file, which only
    # site-packages directories have, and this one is put on the path as a plain directory.
    (site / "dependencies.pth").write_text(sysconfig_purelib())
    return home


def sysconfig_purelib() -> str:
    import sysconfig

    return sysconfig.get_path("purelib")


def run(installed: Path, *args: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [installed / "bin" / "python", *args], cwd=installed, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_the_installed_one(installed: Path) -> None:
    origin = run(
        installed, "-c", "import kaito_ray, deployments, tuning; print(kaito_ray.__file__, deployments.__file__)"
    )
    assert str(ROOT / "kaito_ray") not in origin
    assert origin.count(str(installed)) == 2


def test_presets_are_inside(installed: Path) -> None:
    assert "smollm2-135m-instruct" in run(installed, "-m", "kaito_ray.cli.main", "presets", "list")


def test_every_crd_is_inside(installed: Path) -> None:
    code = (
        "from kaito_ray.api.crd import crd; from kaito_ray.local.crds import manifests;"
        "print([m['metadata']['name'] for m in (crd(), *manifests())])"
    )
    names = run(installed, "-c", code)
    for name in ("workspaces.kaito.sh", "rayservices.ray.io", "rayjobs.ray.io", "nodepools.karpenter.sh"):
        assert name in names


def test_the_quick_start_manifest_renders(installed: Path) -> None:
    code = "from kaito_ray.cli.examples import example; print(example('inference/workspace_smollm2.yaml'))"
    manifest = run(installed, "-c", code).strip()
    assert str(installed) in manifest
    assert "kind: RayService" in run(installed, "-m", "kaito_ray.cli.main", "render", "-f", manifest)
