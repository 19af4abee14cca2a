"""Take the two files of a LoRA adapter out of an image's layers, and nothing else.

Layouts that are understood: KAITO's tar of `data/`, any image with those files in one folder (also built on top of a
distribution), and ORAS artifacts whose layers are the files themselves. Nothing of a layer is trusted: only files of
the expected names are ever created, in folders that we name; links and devices are never made, pickles never read.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from kaito_ray.errors import AdapterRefused
from kaito_ray.registry.client import Layer
from kaito_ray.registry.layers import TITLE, WHITEOUT, CautiousTarInfo, Metered, decompressed, erased, stays_inside

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PREFERRED: Final = (PurePosixPath("data"), PurePosixPath())
"""KAITO's folder, then the root, where an image has several."""
_UNPACK: Final = "io.deis.oras.content.unpack"
_CHUNK_BYTES: Final = 2**20


@dataclass(frozen=True)
class Limits:
    """What one adapter may cost. A rank-64 adapter of a 70B model has about 1.7 GB in bf16."""

    files_bytes: int = 8 * 2**30
    """Of the extracted files."""
    config_bytes: int = 2**20
    """Of `adapter_config.json`."""
    unpacked_bytes: int = 64 * 2**30
    """Of all layers together when decompressed, read or skipped."""
    members: int = 500_000
    """Entries of all layers together."""


@dataclass
class Unpacker:
    """Collects an adapter's files from layer after layer, in order, into `root`, an empty folder of ours."""

    root: Path
    limits: Limits = field(default_factory=Limits)
    _files: dict[PurePosixPath, Path] = field(default_factory=dict)
    _pickles: set[PurePosixPath] = field(default_factory=set)
    _special: dict[PurePosixPath, str] = field(default_factory=dict)
    _members: int = 0
    _unpacked_bytes: int = 0

    def add(self, layer: Layer, blob: Path) -> None:
        """Take what is wanted out of one layer.

        Raises:
            AdapterRefused: a path leaves the folder, a limit is passed, or the archive is broken.

        """
        title = layer.annotations.get(TITLE)
        if title and layer.annotations.get(_UNPACK) != "true":
            with blob.open("rb") as file:
                self._take(_safe_path(title), file, blob.stat().st_size)
            return
        try:
            with blob.open("rb") as file, decompressed(file) as plain:
                self._walk(Metered(plain, self.count))
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # The disk's trouble (full, read-only), not the archive's.
            raise AdapterRefused(f"layer {layer.digest} is no readable tar archive: {error}") from error

    def finish(self, target: Path) -> None:
        """Move the adapter's two files into the empty folder `target`, under peft's names.

        Raises:
            AdapterRefused: there is no adapter, more than one, or only a pickled one.

        """
        folder = adapter_folder([*self._files, *self._pickles, *self._special])
        for path, kind in self._special.items():
            if path in (folder, *folder.parents) or path.parent == folder:
                raise AdapterRefused(f"{path} is a {kind}; an adapter's folder may hold plain files only")
        names = [path.name for path in self._files if path.parent == folder]
        weights = weights_name([*names, *(p.name for p in self._pickles if p.parent == folder)])
        shutil.move(self._files[folder / CONFIG], target / CONFIG)
        shutil.move(self._files[folder / weights], target / WEIGHTS)

    def count(self, read_bytes: int) -> None:
        """Count decompressed bytes, and stop an archive that has no end."""
        self._unpacked_bytes += read_bytes
        if self._unpacked_bytes > self.limits.unpacked_bytes:
            raise AdapterRefused(f"the layers unpack to more than {self.limits.unpacked_bytes} bytes")

    def _walk(self, plain: Metered) -> None:
        with tarfile.open(fileobj=plain, mode="r|", tarinfo=CautiousTarInfo) as archive:
            for member in archive:
                self._members += 1
                if self._members > self.limits.members:
                    raise AdapterRefused(f"the layers have more than {self.limits.members} entries")
                path = _safe_path(member.name)
                if path.name.startswith(WHITEOUT):
                    self._erase(path)
                elif member.isdir():
                    self._special.pop(path, None)
                elif not member.isreg() or member.issparse():
                    self._special[path] = _kind(member)
                    self._forget(path)
                elif content := archive.extractfile(member):
                    self._special.pop(path, None)
                    self._take(path, content, member.size)

    def _take(self, path: PurePosixPath, content: IO[bytes], size_bytes: int) -> None:
        if path.suffix in _PICKLES:
            self._pickles.add(path)
        if path.name != CONFIG and path.suffix != ".safetensors":
            return
        limit = self.limits.config_bytes if path.name == CONFIG else self.limits.files_bytes
        kept = sum(file.stat().st_size for other, file in self._files.items() if other != path)
        room = min(limit, self.limits.files_bytes - kept)
        if size_bytes > room:
            raise AdapterRefused(f"{path} has {size_bytes} bytes, more than the {room} that are allowed")
        with tempfile.NamedTemporaryFile(dir=self.root, delete=False) as file:
            shutil.copyfileobj(content, file, _CHUNK_BYTES)
        self._forget(path)
        self._files[path] = Path(file.name)

    def _erase(self, whiteout: PurePosixPath) -> None:
        """Carry out a layer's deletion of what a lower layer brought."""
        gone = erased(whiteout)
        for path in [p for p in (*self._files, *self._pickles) if gone == p or gone in p.parents]:
            self._forget(path)
            self._pickles.discard(path)

    def _forget(self, path: PurePosixPath) -> None:
        if file := self._files.pop(path, None):
            file.unlink()


def adapter_folder(paths: Collection[PurePosixPath]) -> PurePosixPath:
    """Return the folder of the adapter among the files of an image or volume.

    Raises:
        AdapterRefused: none has an adapter_config.json, or several do and none is `data/` or the root.

    """
    folders = sorted({path.parent for path in paths if path.name == CONFIG})
    if not folders:
        raise AdapterRefused(f"there is no {CONFIG}; an adapter is {CONFIG} and {WEIGHTS}, best in a folder data/")
    for preferred in _PREFERRED:
        if preferred in folders:
            return preferred
    if len(folders) > 1:
        listed = ", ".join(str(folder) for folder in folders[:5])
        raise AdapterRefused(f"there are several adapters, in {listed}; make one image or volume of each")
    return folders[0]


def weights_name(names: Collection[str]) -> str:
    """Return which of the files in an adapter's folder has the weights: peft's name, or the only safetensors.

    Raises:
        AdapterRefused: there is none, several, or only a pickle, which could run code when it is read.

    """
    if WEIGHTS in names:
        return WEIGHTS
    candidates = sorted(name for name in names if name.endswith(".safetensors"))
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise AdapterRefused(f"there are several weight files ({', '.join(candidates[:5])}) and none is {WEIGHTS}")
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if pickles:
        raise AdapterRefused(
            f"{pickles[0]} is a pickle, which can run code, and is not read; save the adapter as {WEIGHTS} "
            "(peft: save_pretrained(..., safe_serialization=True))"
        )
    raise AdapterRefused(f"there is no {WEIGHTS} beside {CONFIG}")


def _safe_path(name: str) -> PurePosixPath:
    if not stays_inside(name):
        raise AdapterRefused(f"the path {name!r} leaves the adapter's folder")
    return PurePosixPath(name)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"link to {member.linkname}"
    return "sparse file" if member.issparse() else "device or pipe"
