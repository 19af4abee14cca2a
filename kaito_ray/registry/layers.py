"""The layers of images of strangers: how they are opened and walked so that nothing of one is trusted."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, Final, Self

from kaito_ray.errors import AdapterRefused

TITLE: Final = "org.opencontainers.image.title"
"""Annotation of an ORAS layer: the name of the file that the layer is."""
WHITEOUT: Final = ".wh."
"""Leads the name of what a layer deletes."""
_OPAQUE: Final = ".wh..wh..opq"
_HEADER_LIMIT_BYTES: Final = 2**20


class CautiousTarInfo(tarfile.TarInfo):
    """Refuses extended headers of absurd size, which `tarfile` would read into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one header, as `tarfile` does."""
        info = super().frombuf(buf, encoding, errors)
        extended = info.type in {b"x", b"g", b"X", tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
        if extended and info.size > _HEADER_LIMIT_BYTES:
            raise AdapterRefused(f"an archive header claims {info.size} bytes")
        return info


class Metered(io.RawIOBase):
    """A decompressed stream; `count` is told what is read from it, and raises where it is too much."""

    def __init__(self, plain: Any, count: Callable[[int], None]) -> None:
        self._plain, self._count = plain, count

    def read(self, size: int = -1) -> bytes:
        """Read as from the stream itself."""
        data: bytes = self._plain.read(size)
        self._count(len(data))
        return data


@contextmanager
def decompressed(file: IO[bytes]) -> Iterator[Any]:
    """Open by what the bytes are: media types in the wild do not always tell the truth."""
    magic = file.read(4)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(file) as plain:
            yield plain
    elif magic == b"\x28\xb5\x2f\xfd":
        # Big, and most layers are gzip.
        import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as plain:
            yield plain
    else:
        yield file


def stays_inside(name: str) -> bool:
    """Return whether the path of an entry leads to nowhere outside the folder that it is unpacked in."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\x00" not in name


def erased(whiteout: PurePosixPath) -> PurePosixPath:
    """Return what a layer's whiteout file deletes of the layers below: one path, or a folder with all that is in it."""
    return whiteout.parent if whiteout.name == _OPAQUE else whiteout.with_name(whiteout.name[len(WHITEOUT) :])
