"""An adapter as an OCI image in KAITO's layout.

One layer, a gzipped tar of the directory `data/` with the two files of the adapter; a config that holds nothing but the
layer's diff id; the base model in the manifest's annotation `sh.kaito.model.name`. Equal adapters give equal bytes (no
times, no names of this machine), so pushing one twice changes nothing in the registry.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tuning.paths import ADAPTER_FILES

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Blob:
    """Bytes under their digest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """Return `sha256:` and 64 hex digits."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def descriptor(self) -> dict[str, Any]:
        """Return what a manifest says about it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True)
class AdapterImage:
    """A whole image; its digest is the manifest's."""

    manifest: Blob
    blobs: tuple[Blob, ...]


def build(adapter: Path, annotations: Mapping[str, str]) -> AdapterImage:
    """Return the image of the adapter in that directory."""
    tar = _tar(adapter)
    layer = Blob(LAYER_TYPE, gzip.compress(tar, mtime=0))
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]}
    config = Blob(CONFIG_TYPE, _json({"rootfs": rootfs}))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
        "annotations": dict(annotations),
    }
    return AdapterImage(Blob(MANIFEST_TYPE, _json(manifest)), (layer, config))


def _tar(adapter: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        directory = tarfile.TarInfo("data")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
        for name in ADAPTER_FILES:
            content = (adapter / name).read_bytes()
            entry = tarfile.TarInfo(f"data/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
