"""Take the files of one model out of an image's layers, and nothing else.

Which folder holds the model is known only at the end, so every file that a model may have is kept under a name of ours
until then. Nothing of a layer is trusted: links and devices are never made, pickles and code never written, and what
the layers unpack to is bounded.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from kaito_ray.registry.client import Layer
from kaito_ray.registry.layers import TITLE, WHITEOUT, CautiousTarInfo, Metered, decompressed, erased, stays_inside
from kaito_ray.weights.problems import WeightsUnavailable

CONFIG: Final = "config.json"
WEIGHTS: Final = ".safetensors"
_BESIDE: Final = (".json", ".jinja", ".model", ".tiktoken", ".txt")
"""Kinds of the other files of a model: configs, tokenizers, chat templates."""
_BESIDE_LIMIT_BYTES: Final = 256 * 2**20
_UNPACKED_LIMIT_BYTES: Final = 4 * 2**40
"""Of all layers together, read or skipped; the largest models have 1.5 TB."""
_MEMBERS: Final = 1_000_000
_UNPACK: Final = "io.deis.oras.content.unpack"
_SCRATCH: Final = ".layers"


class ModelFiles:
    """Collects a model's files from layer after layer, in order, into `root`, an empty folder or what an earlier try left."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._scratch = root / _SCRATCH
        self._files: dict[PurePosixPath, Path] = {}
        self._links: set[PurePosixPath] = set()
        self._unpacked_bytes = 0
        self._members = 0
        for left in root.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._scratch.mkdir()

    def add(self, layer: Layer, blob: Path) -> None:
        """Take what is wanted out of one layer.

        Raises:
            WeightsUnavailable: a path leaves the image, a limit is passed, or the archive is broken.
        """
        title = layer.annotations.get(TITLE)
        with blob.open("rb") as packed:
            if title and layer.annotations.get(_UNPACK) != "true":
                self._take(_safe(title), packed, blob.stat().st_size)
                return
            try:
                with decompressed(packed) as plain:
                    self._walk(Metered(plain, self._count))
            except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk's trouble, not the archive's
                raise WeightsUnavailable(f"layer {layer.digest} is no readable tar archive: {error}") from error

    def finish(self) -> None:
        """Move the model's files to the root, and drop all else.

        Raises:
            WeightsUnavailable: there is no model, more than one, or one whose files are links.
        """
        folder = self._folder()
        if links := sorted(str(path) for path in self._links if path.parent == folder):
            raise WeightsUnavailable(
                f"{links[0]} is a link, which is not followed; put the files themselves into the image"
            )
        for path, file in self._files.items():
            if path.parent == folder:
                file.rename(self._root / path.name)
        shutil.rmtree(self._scratch)

    def _folder(self) -> PurePosixPath:
        weights = {path.parent for path in (*self._files, *self._links) if path.suffix == WEIGHTS}
        found = sorted(path.parent for path in self._files if path.name == CONFIG and path.parent in weights)
        if not found:
            raise WeightsUnavailable(
                f"the image has no folder with {CONFIG} and *{WEIGHTS}; put the files of the model into one, as a hub has them"
            )
        if len(found) > 1:
            listed = ", ".join(map(str, found[:5]))
            raise WeightsUnavailable(f"the image has several models, in {listed}; make one image of each")
        return found[0]

    def _walk(self, plain: Metered) -> None:
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=CautiousTarInfo) as archive:
            for member in archive:
                self._members += 1
                if self._members > _MEMBERS:
                    raise WeightsUnavailable(f"the layers have more than {_MEMBERS} entries")
                path = _safe(member.name)
                if path.name.startswith(WHITEOUT):
                    self._erase(erased(path))
                elif member.issym() or member.islnk():
                    self._forget(path)
                    self._links.add(path)
                # A sparse file would be written out at its claimed size, which no count of what is read can bound.
                elif member.isreg() and not member.issparse() and (content := archive.extractfile(member)):
                    self._take(path, content, member.size)

    def _take(self, path: PurePosixPath, content: IO[bytes], size_bytes: int) -> None:
        self._forget(path)
        beside = path.suffix in _BESIDE and size_bytes <= _BESIDE_LIMIT_BYTES
        # Hidden files are somebody's notes, such as the manifest of the cache that the image was made from.
        if (path.suffix == WEIGHTS or beside) and not path.name.startswith("."):
            file = self._scratch / str(self._members + len(self._files))
            with file.open("wb") as out:
                shutil.copyfileobj(content, out, 2**20)
            self._files[path] = file

    def _erase(self, gone: PurePosixPath) -> None:
        """Carry out a layer's deletion of what a lower layer brought."""
        for path in list(self._below(gone)):
            self._forget(path)

    def _below(self, gone: PurePosixPath) -> Iterator[PurePosixPath]:
        return (path for path in (*self._files, *self._links) if gone == path or gone in path.parents)

    def _forget(self, path: PurePosixPath) -> None:
        self._links.discard(path)
        if file := self._files.pop(path, None):
            file.unlink()

    def _count(self, read_bytes: int) -> None:
        self._unpacked_bytes += read_bytes
        if self._unpacked_bytes > _UNPACKED_LIMIT_BYTES:
            raise WeightsUnavailable(f"the layers unpack to more than {_UNPACKED_LIMIT_BYTES} bytes")


def _safe(name: str) -> PurePosixPath:
    if not stays_inside(name):
        raise WeightsUnavailable(f"the path {name!r} leads out of the image")
    return PurePosixPath(name)
