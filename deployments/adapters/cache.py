"""Adapters on this node's disk, by digest: pulled once, shared by its replicas, least recently used out.

    <root>/sha256-<hex>/            adapter_config.json, adapter_model.safetensors; complete or absent
    <root>/sha256-<hex>/strength-…/ the same, scaled (`strength`)
    <root>/locks/sha256-<hex>       held exclusively while filling or evicting, shared while in use
    <root>/partial/sha256-<hex>/    a download under way, kept for whoever resumes it

The locks are flock(2): the kernel drops them with the process, so a crash leaves nothing to clean up.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kaito_ray.errors import KaitoRayError

DEFAULT_LIMIT_BYTES: Final = 50 * 2**30
_LOCK_POLL_S: Final = 0.1


class DiskFull(KaitoRayError):
    """There is no room for an adapter; what was fetched of it stays, and the next attempt goes on from there."""

    reason = "DiskFull"


@dataclass
class Entry:
    """An adapter that is used, and therefore not evicted, until `release`."""

    digest: str
    folder: Path
    _lock_fd: int

    def release(self) -> None:
        """Let it be evicted when room is needed; calling it again does nothing."""
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True)
class Filling:
    """Where an adapter is being put together."""

    parts: Path
    """For downloads; a later attempt finds them again."""
    adapter: Path
    """Empty; becomes the adapter."""


class Cache:
    """The adapters under `root`, at most `limit_bytes` of them unless all are in use."""

    def __init__(self, root: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._root = root
        self.limit_bytes = limit_bytes
        for folder in (root, root / "locks", root / "partial"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def get(self, digest: str) -> Entry | None:
        """Return the adapter of that digest, marked as just used, if it is here."""
        fd = self._lock(digest, fcntl.LOCK_SH)
        if fd is None:
            return None
        folder = self._root / _name(digest)
        if not folder.is_dir():
            os.close(fd)
            return None
        os.utime(folder)
        return Entry(digest, folder, fd)

    @asynccontextmanager
    async def filling(self, digest: str) -> AsyncIterator[Filling | None]:
        """Wait for sole charge of `digest`; give the place to build it, or None where someone else did.

        When the block succeeds the adapter is there, whole and at once. When it fails, `parts` keeps what is in it.

        Raises:
            DiskFull: in place of the block's own error, where that is the cause.
        """
        final = self._root / _name(digest)
        # The other side may be another process, so there is no asyncio.Event to wait for.
        while (fd := self._lock(digest, fcntl.LOCK_EX)) is None and not final.is_dir():  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOCK_POLL_S)
        try:
            if fd is None or final.is_dir():
                yield None
                return
            parts = self._root / "partial" / _name(digest)
            fresh = parts / "adapter"
            shutil.rmtree(fresh, ignore_errors=True)  # A crash may have left half of one.
            fresh.mkdir(mode=0o700, parents=True)
            yield Filling(parts, fresh)
            fresh.rename(final)
            shutil.rmtree(parts)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"the disk of {self._root} is full ({os.strerror(error.errno)}), so the adapter has no room there; take "
                "what is not needed out of inference.adapters, or make room on that disk of the node"
            ) from error
        finally:
            if fd is not None:
                os.close(fd)

    def usage(self) -> tuple[int, int]:
        """Return how many adapters are here, and the bytes of all, downloads under way among them."""
        return sum(1 for _ in self._root.glob("sha256-*")), sum(self._sizes().values())

    def evict(self) -> list[str]:
        """Remove what was least recently used, and is not in use, until the rest fits; return the digests.

        Downloads that were given up count as any other.
        """
        sizes = self._sizes()
        gone: list[str] = []
        for path in sorted(sizes, key=_last_used):
            if sum(sizes.values()) <= self.limit_bytes:
                break
            digest = path.name.replace("-", ":", 1)
            if (fd := self._lock(digest, fcntl.LOCK_EX)) is None:
                continue
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
            sizes.pop(path)
            gone.append(digest)
        return gone

    def _sizes(self) -> dict[Path, int]:
        sizes: dict[Path, int] = {}
        for path in (*self._root.glob("sha256-*"), *self._root.glob("partial/sha256-*")):
            with suppress(FileNotFoundError):  # It became an adapter, or another replica evicted it.
                sizes[path] = tree_bytes(path)
        return sizes

    def _lock(self, digest: str, kind: int) -> int | None:
        fd = os.open(self._root / "locks" / _name(digest), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd


def tree_bytes(folder: Path) -> int:
    """Return the bytes that the files below `folder` hold on disk; hard links count once."""
    files = {(s.st_dev, s.st_ino): s.st_size for s in (p.stat() for p in folder.rglob("*") if p.is_file())}
    return sum(files.values())


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _name(digest: str) -> str:
    return digest.replace(":", "-", 1)
