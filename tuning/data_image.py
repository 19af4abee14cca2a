"""Training data from an OCI image: the files below `data/`, as KAITO has it, or the files of an ORAS artifact.

Nothing of a layer is trusted: only plain files of a kind that we read are ever written, below a directory of ours, and
their number of bytes is bounded, packed and unpacked.
"""

from __future__ import annotations

import asyncio
import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Final

import httpx

from kaito_ray.errors import AdapterRefused, InvalidWorkspace
from kaito_ray.registry.client import Layer, Registry
from kaito_ray.registry.keyring import Keyring
from kaito_ray.registry.layers import TITLE, WHITEOUT, CautiousTarInfo, Metered, decompressed, erased, stays_inside
from kaito_ray.registry.reference import parse
from tuning.download import LIMIT_BYTES
from tuning.files import EXTENSIONS

FIELD: Final = "tuning.input.image"
_FOLDER: Final = "data"


def fetch(
    image: str,
    directory: Path,
    credentials: Sequence[Path] = (),
    *,
    limit_bytes: int = LIMIT_BYTES,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Path:
    """Return `directory` with the data files of the image; what is there whole is not fetched again.

    Raises:
        InvalidWorkspace: the image holds no data, too much, or is broken.
        ImageNotFound, RegistryDenied: it cannot be had with these credentials.
        RegistryUnavailable: try the job again later.
    """
    if not directory.exists():
        try:
            asyncio.run(_fetch(image, directory, credentials, limit_bytes, transport))
        except AdapterRefused as error:
            raise InvalidWorkspace(FIELD, str(error)) from error
    return directory


async def _fetch(
    image: str,
    directory: Path,
    credentials: Sequence[Path],
    limit_bytes: int,
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    reference = parse(image, field=FIELD)
    keyring = Keyring(tuple(entry for path in credentials for entry in Keyring.read(path).entries))
    blobs, unpacked = directory.with_name(f"{directory.name}.blobs"), directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(unpacked, ignore_errors=True)
    for folder in (blobs, unpacked):
        folder.mkdir(parents=True, exist_ok=True)
    async with Registry(reference, keyring, transport=transport) as registry:
        found = await registry.image(await registry.resolve())
        if found.size_bytes > limit_bytes:
            raise InvalidWorkspace(FIELD, f"{image} has {found.size_bytes} bytes, more than the {limit_bytes} allowed")
        unpacker = Unpacker(unpacked, limit_bytes)
        for layer in found.layers:
            blob = blobs / layer.digest.replace(":", "-")
            if not blob.exists():
                await registry.download(layer, blob)
            await asyncio.to_thread(unpacker.add, layer, blob)
    if not any(path.is_file() for path in unpacked.rglob("*")):
        raise InvalidWorkspace(
            FIELD,
            f"{image} has no {' '.join(sorted(EXTENSIONS))} file below {_FOLDER}/; build it FROM scratch with one",
        )
    unpacked.rename(directory)
    shutil.rmtree(blobs)


class Unpacker:
    """Puts the data files of layer after layer, in order, below `root`."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root = root
        self._left = limit_bytes

    def add(self, layer: Layer, blob: Path) -> None:
        """Take the data files out of one layer.

        Raises:
            InvalidWorkspace: a path leaves the folder, the data is too big, or the archive is broken.
        """
        with blob.open("rb") as packed:
            if title := layer.annotations.get(TITLE):
                path = _safe(title)
                if path.suffix.lower() in EXTENSIONS:
                    self._write(path, packed)
                    return
            try:
                with (
                    decompressed(packed) as plain,
                    tarfile.open(
                        fileobj=Metered(plain, _at_most(self._left)), mode="r|", tarinfo=CautiousTarInfo
                    ) as tar,
                ):
                    self._walk(tar)
            except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InvalidWorkspace(FIELD, f"layer {layer.digest} is no readable tar archive: {error}") from error

    def _walk(self, tar: tarfile.TarFile) -> None:
        for member in tar:
            path = _safe(member.name)
            if not path.parts or path.parts[0] != _FOLDER:
                continue
            inside = path.relative_to(_FOLDER)
            if inside.name.startswith(WHITEOUT):
                self._erase(inside)
            elif _is_data(member, inside) and (content := tar.extractfile(member)):
                self._write(inside, content)

    def _write(self, path: PurePosixPath, content: IO[bytes]) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)
        self._left -= target.stat().st_size

    def _erase(self, whiteout: PurePosixPath) -> None:
        """Carry out a layer's deletion of what a lower layer brought."""
        target = self._root / erased(whiteout)
        if target.is_dir() and target != self._root:
            shutil.rmtree(target)
        elif target == self._root:
            for child in target.iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        else:
            target.unlink(missing_ok=True)


def _is_data(member: tarfile.TarInfo, path: PurePosixPath) -> bool:
    # A sparse file would be written out at its claimed size, which no count of what is read can bound.
    return member.isreg() and not member.issparse() and path.suffix.lower() in EXTENSIONS


def _at_most(limit_bytes: int) -> Callable[[int], None]:
    """Return a count of bytes that ends in an error once there are too many."""
    left = limit_bytes

    def count(read_bytes: int) -> None:
        nonlocal left
        left -= read_bytes
        if left < 0:
            raise InvalidWorkspace(FIELD, "the layers unpack to more bytes than are allowed")

    return count


def _safe(name: str) -> PurePosixPath:
    if not stays_inside(name):
        raise InvalidWorkspace(FIELD, f"the path {name!r} leads out of the image")
    return PurePosixPath(name)
