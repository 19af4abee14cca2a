"""Weights from an OCI image: which files are taken, from which folder, and what a layer of a stranger cannot do."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from kaito_ray.api.app_args import ModelSource
from kaito_ray.controller.engine_cause import of_engine
from kaito_ray.registry import client
from kaito_ray.weights import WeightsUnavailable, local_directory
from kaito_ray.weights.progress import Progress
from tests import adapters
from tests.adapters import gzipped, layer_of, tar
from tests.unit.deployments.adapters.memory_registry import MemoryRegistry

IMAGE = "127.0.0.1:5000/models/tiny:1"
TITLE = "org.opencontainers.image.title"


def model(prefix: str = "", **more: bytes) -> dict[str, bytes]:
    files = {
        "config.json": json.dumps({"model_type": "tiny"}).encode(),
        "model.safetensors": save({"w": np.zeros(4, dtype=np.float32)}),
        "tokenizer.json": b"{}",
        **more,
    }
    return {f"{prefix}{name}": content for name, content in files.items()}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRegistry]:
    """A registry that every pull of the test is answered by."""
    memory = MemoryRegistry()
    make = client.Registry.__init__

    def with_transport(self: client.Registry, *arguments: object, **options: object) -> None:
        make(self, *arguments, **{**options, "transport": memory.transport()})  # type: ignore[arg-type]

    monkeypatch.setattr(client.Registry, "__init__", with_transport)
    return memory


def fetched(tmp_path: Path, image: str = IMAGE) -> Path:
    # With an image, nothing else is looked at.
    source = ModelSource(image=image, hub="org/model", local_dir="/nowhere")
    return local_directory(source, cache=tmp_path / "cache", progress=Progress(lambda _: None))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("prefix", ["", "data/", "workspace/weights/", "./models/tiny/"])
def test_the_files_of_the_folder_with_the_model_are_taken(
    registry: MemoryRegistry, tmp_path: Path, prefix: str
) -> None:
    noise = {"etc/passwd.txt": b"root", "usr/lib/python3/config.json": b"{}", f"{prefix}run.py": b"print()"}
    noise[f"{prefix}.kaito-ray-manifest.json"] = b"{}"  # of a cache that somebody made an image of
    registry.push("1", gzipped(tar(noise)), gzipped(tar(model(prefix, **{"pytorch_model.bin": b"pickle"}))))
    folder = fetched(tmp_path)
    assert names(folder) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert fetched(tmp_path) == folder


def test_an_artifact_whose_layers_are_the_files_is_taken(registry: MemoryRegistry, tmp_path: Path) -> None:
    files = model()
    layers = [
        layer_of(content, media_type="application/octet-stream", **{TITLE: name}) for name, content in files.items()
    ]
    registry.push_layers("1", layers, *files.values())
    folder = fetched(tmp_path)
    assert {path: (folder / path).read_bytes() for path in files} == files


def test_it_is_fetched_once_for_each_digest(registry: MemoryRegistry, tmp_path: Path) -> None:
    registry.push("1", gzipped(tar(model())))
    first = fetched(tmp_path)
    blobs = len(registry.paths("blobs"))
    assert fetched(tmp_path) == first
    assert len(registry.paths("blobs")) == blobs
    registry.push("1", gzipped(tar(model(**{"generation_config.json": b"{}"}))))
    assert fetched(tmp_path) != first


def test_what_an_upper_layer_deletes_or_replaces_is_so(registry: MemoryRegistry, tmp_path: Path) -> None:
    upper = {"m/.wh.tokenizer.json": b"", "m/config.json": b'{"model_type": "newer"}'}
    registry.push("1", tar(model("m/")), tar(upper))
    folder = fetched(tmp_path)
    assert names(folder) == {"config.json", "model.safetensors"}
    assert "newer" in (folder / "config.json").read_text()


def link(name: str, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, to
    return info


def without(name: str) -> dict[str, bytes]:
    return {path: content for path, content in model("m/").items() if path != f"m/{name}"}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (tar({"notes.txt": b"no model"}), "no folder with config.json and *.safetensors"),
        (tar({**model("a/"), **model("b/")}), "several models, in a, b"),
        (tar({"../config.json": b"{}"}), "leads out of the image"),
        (tar({"/config.json": b"{}"}), "leads out of the image"),
        (
            tar(without("model.safetensors"), link("m/model.safetensors", "/etc/shadow")),
            "is a link, which is not followed",
        ),
        (b"neither tar nor gzip" * 600, "no readable tar archive"),
    ],
    ids=["none", "two", "outside", "absolute", "link", "broken"],
)
def test_what_is_no_model_is_refused_in_words(
    registry: MemoryRegistry, tmp_path: Path, layer: bytes, words: str
) -> None:
    registry.push("1", layer)
    with pytest.raises(WeightsUnavailable) as told:
        fetched(tmp_path)
    assert words in str(told.value)


def test_an_interrupted_try_is_no_model_and_the_next_one_is_whole(registry: MemoryRegistry, tmp_path: Path) -> None:
    weights = gzipped(tar(without("config.json")))
    registry.push("1", weights, gzipped(tar({"m/config.json": b"{}"})))
    lost = registry.blobs.pop(adapters.digest(gzipped(tar({"m/config.json": b"{}"}))))
    with pytest.raises(WeightsUnavailable, match="cannot be pulled"):
        fetched(tmp_path)
    registry.blobs[adapters.digest(lost)] = lost
    assert names(fetched(tmp_path)) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert not list((tmp_path / "cache").rglob("*.blobs"))


@pytest.mark.parametrize(("status", "reason"), [(404, "WeightsImageNotFound"), (401, "WeightsImageDenied")])
def test_an_image_that_cannot_be_had_is_told_and_recognised(
    registry: MemoryRegistry, tmp_path: Path, status: int, reason: str
) -> None:
    registry.meddle = lambda _: httpx.Response(status)
    with pytest.raises(WeightsUnavailable) as told:
        fetched(tmp_path)
    cause = of_engine(f"kaito_ray.weights.problems.WeightsUnavailable: {told.value}")
    assert cause is not None
    assert (cause.reason, IMAGE in cause.message) == (reason, True)


def test_a_reference_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"presetOptions\.image"):
        fetched(tmp_path, "Not An Image")
