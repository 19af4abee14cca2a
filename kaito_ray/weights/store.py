"""Directories that are whole or absent.

Each source has one directory. It is made under a lock in `<name>.partial`, which survives an interruption so that the
next try resumes, then described by a manifest of sizes and SHA-256 sums, then renamed. A directory that no longer
matches its manifest is made again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from kaito_ray.weights.progress import Progress

MANIFEST = ".kaito-ray-manifest.json"

HASH_LIMIT_BYTES = 4 * 2**30
"""Up to here every start reads and hashes all files (about 1 GB/s, and vLLM then finds them in memory). Beyond, a file
whose size and modification time are as recorded is trusted, so that a large model does not wait minutes."""


class Store:
    """A folder with one directory per source."""

    def __init__(self, root: Path, progress: Progress) -> None:
        self._root = root
        self._progress = progress

    def get(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return the directory of `key`; `make` fills it where it is absent or damaged.

        `make` may find there what an interrupted run of itself left.
        """
        final = self._root / directory_name(key)
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{final}.lock"):
            if final.exists():
                if (fault := damage(final)) is None:
                    return final
                self._progress.say(f"{final} is damaged ({fault}); fetching it again")
                shutil.rmtree(final)
            partial = final.with_name(f"{final.name}.partial")
            partial.mkdir(exist_ok=True)
            make(partial)
            write_manifest(partial)
            partial.rename(final)
        return final


def directory_name(key: str) -> str:
    """Return a readable file name that is unique to `key`."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", key).strip("-")[:80]
    return f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def write_manifest(directory: Path) -> None:
    """Record size, modification time and SHA-256 of every file."""
    files = {
        str(path.relative_to(directory)): {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "sha256": sha256_of(path),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    (directory / MANIFEST).write_text(json.dumps(files, indent=1))


def damage(directory: Path, *, hash_limit_bytes: int = HASH_LIMIT_BYTES) -> str | None:
    """Return what does not match the manifest, or None where everything does."""
    try:
        recorded = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return "no readable manifest"
    hash_all = sum(file["size"] for file in recorded.values()) <= hash_limit_bytes
    for name, file in recorded.items():
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        stat = path.stat()
        if stat.st_size != file["size"]:
            return f"{name} has {stat.st_size} bytes instead of {file['size']}"
        if (hash_all or stat.st_mtime_ns != file["mtime_ns"]) and sha256_of(path) != file["sha256"]:
            return f"{name} has another SHA-256"
    return None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
