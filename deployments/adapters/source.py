"""From what the Workspace says to files on this node: an image pulled by digest, or a mounted directory copied.

Both end in the cache. The engine reads an adapter again whenever it comes back from being least recently used, so it
must not read from a volume that somebody else may write to meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import httpx

from deployments.adapters.cache import Cache, Entry
from deployments.adapters.extract import CONFIG, WEIGHTS, Limits, Unpacker, adapter_folder, weights_name
from deployments.mounts import mounted
from kaito_ray.api.app_args import REGISTRY_MOUNT, UserAdapter
from kaito_ray.errors import AdapterRefused, TransientError
from kaito_ray.registry import reference
from kaito_ray.registry.client import Image, Registry
from kaito_ray.registry.keyring import Keyring

Progress = Callable[[int, int], None]
"""Called with the bytes that are here, and those that there are."""

_CHUNK_BYTES: Final = 2**20


class VolumeChanged(TransientError):
    """Somebody wrote to the volume while it was read."""

    reason = "VolumeChanged"


class AdapterFiles:
    """Brings adapters into the cache."""

    def __init__(
        self,
        cache: Cache,
        *,
        credentials: Path | None = None,
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`credentials` is the directory of docker configs; absent means where the operator mounts it."""
        self._cache = cache
        self._credentials = credentials or mounted(REGISTRY_MOUNT)
        self._limits = limits or Limits()
        self._transport = transport

    async def digest(self, adapter: UserAdapter) -> str:
        """Return the digest of what the adapter's source holds now: of an image's manifest, or of a folder's files.

        Raises:
            AdapterRefused, ImageNotFound, RegistryDenied, TransientError: as their docstrings say.

        """
        if adapter.path is not None:
            return await asyncio.to_thread(_folder_digest, _folder_of(adapter.path))
        async with self._registry(adapter) as registry:
            return await registry.resolve()

    async def obtain(self, adapter: UserAdapter, digest: str, progress: Progress) -> Entry:
        """Return the adapter's files of that digest, in use until they are released; fetch them if need be.

        Raises:
            As `digest`.

        """
        while (entry := self._cache.get(digest)) is None:
            async with self._cache.filling(digest) as filling:
                if filling is None:
                    continue
                if adapter.path is not None:
                    await _to_its_end(_copy, _folder_of(adapter.path), filling.adapter, digest)
                else:
                    await self._pull(adapter, digest, filling.parts, filling.adapter, progress)
        # Only now that it is in use: a full cache must not throw out what was just brought.
        await asyncio.to_thread(self._cache.evict)
        return entry

    async def _pull(self, adapter: UserAdapter, digest: str, parts: Path, target: Path, progress: Progress) -> None:
        async with self._registry(adapter) as registry:
            image = await registry.image(digest)
            self._refuse_huge(image)
            before = 0
            for layer in image.layers:
                blob = parts / layer.digest.replace(":", "-")
                if not blob.exists():
                    await registry.download(layer, blob, partial(_report, progress, before, image.size_bytes))
                before += layer.size_bytes
        await _to_its_end(_unpack, image, parts, target, self._limits)

    def _refuse_huge(self, image: Image) -> None:
        if image.size_bytes > self._limits.unpacked_bytes:
            raise AdapterRefused(
                f"the image has {image.size_bytes} bytes, more than the {self._limits.unpacked_bytes} that are allowed"
            )

    def _registry(self, adapter: UserAdapter) -> Registry:
        if adapter.image is None:
            raise AdapterRefused(f"adapter {adapter.name} has neither an image nor a volume")
        return Registry(
            reference.parse(adapter.image, field=f"adapter {adapter.name}: image"),
            Keyring.read(self._credentials),
            transport=self._transport,
        )


def _report(progress: Progress, before_bytes: int, all_bytes: int, done_bytes: int) -> None:
    progress(before_bytes + done_bytes, all_bytes)


async def _to_its_end(function: Callable[..., None], *args: object) -> None:
    """Run it in a thread, and let it end before a cancellation goes on: it writes where the next attempt will."""
    work = asyncio.create_task(asyncio.to_thread(function, *args))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _unpack(image: Image, parts: Path, target: Path, limits: Limits) -> None:
    scratch = parts / "unpacked"
    scratch.mkdir(mode=0o700, exist_ok=True)
    for left_over in scratch.iterdir():
        left_over.unlink()
    unpacker = Unpacker(scratch, limits)
    for layer in image.layers:
        unpacker.add(layer, parts / layer.digest.replace(":", "-"))
    unpacker.finish(target)


def _folder_of(path: str) -> Path:
    """Return the adapter's folder in a volume: its root, `data/`, or the only folder that has one."""
    root = mounted(path)
    if not root.is_dir():
        raise AdapterRefused(f"{path} is no directory in the replica; check volumeSource")
    # Dots: a kubelet's `..data` links, and folders of version control.
    found = [p.relative_to(root) for pattern in (CONFIG, f"[!.]*/{CONFIG}") for p in root.glob(pattern)]
    return root / adapter_folder([PurePosixPath(path) for path in found])


def _files(folder: Path) -> dict[str, Path]:
    weights = weights_name([p.name for p in folder.iterdir()])
    return {CONFIG: folder / CONFIG, WEIGHTS: folder / weights}


def _folder_digest(folder: Path) -> str:
    """Return sha256 over the names and contents of the adapter's two files."""
    whole = hashlib.sha256()
    for name, path in _files(folder).items():
        with path.open("rb") as file:
            whole.update(f"{name}\x00{hashlib.file_digest(file, 'sha256').hexdigest()}\x00".encode())
    return f"sha256:{whole.hexdigest()}"


def _copy(folder: Path, target: Path, digest: str) -> None:
    for name, path in _files(folder).items():
        # Not shutil.copy2: what matters are the bytes, and links of a kubelet's volume are followed.
        with path.open("rb") as source, (target / name).open("wb") as copy:
            while chunk := source.read(_CHUNK_BYTES):
                copy.write(chunk)
    if _folder_digest(target) != digest:
        raise VolumeChanged(f"{folder} changed while it was read")
