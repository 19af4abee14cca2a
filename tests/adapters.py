"""LoRA adapters for tests: tiny, real in form, and packed as other tools pack them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors.numpy import save

Q_PROJ = "base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight"
CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "bias": "none",
    "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
}


def config_bytes(**changes: Any) -> bytes:
    return json.dumps({**CONFIG, **changes}).encode()


def tensors(*, rank: int = 4, width: int = 16, layers: int = 2) -> dict[str, np.ndarray]:
    halves = {"A": (rank, width), "B": (width, rank)}
    return {
        Q_PROJ.format(layer=layer, half=half): np.full(shape, 0.5, dtype=np.float32)
        for layer in range(layers)
        for half, shape in halves.items()
    }


def weights_bytes(**shape: int) -> bytes:
    return save(tensors(**shape))


def files(prefix: str = "data/", **config: Any) -> dict[str, bytes]:
    return {
        f"{prefix}adapter_config.json": config_bytes(**config),
        f"{prefix}adapter_model.safetensors": weights_bytes(),
    }


def write(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar(contents: Mapping[str, bytes], *members: tarfile.TarInfo) -> bytes:
    """Return a tar archive of `members` (links, devices ...), then of files."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for member in members:
            archive.addfile(member)
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zstd(data: bytes) -> bytes:
    compressed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return compressed


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"


def layer_of(blob: bytes, *, media_type: str = f"{OCI_LAYER}+gzip", **annotations: str) -> dict[str, Any]:
    described: dict[str, Any] = {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}
    return {**described, "annotations": annotations} if annotations else described


def manifest(*layers: Mapping[str, Any]) -> bytes:
    config = b"{}"
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": len(config)}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": layers}).encode()
