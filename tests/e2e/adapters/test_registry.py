"""Adapters pulled from a real registry, pushed by another tool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.adapters.cache import Cache, Entry
from deployments.adapters.check import Base, check
from deployments.adapters.source import AdapterFiles
from kaito_ray.api.app_args import UserAdapter
from kaito_ray.errors import ImageNotFound, RegistryDenied
from tests import adapters
from tests.registry import RunningRegistry, oci_layout, running_registry

TAR = adapters.tar(adapters.files())
LAYERS = {
    "gzip": (adapters.gzipped(TAR), f"{adapters.OCI_LAYER}+gzip"),
    "zstd": (adapters.zstd(TAR), f"{adapters.OCI_LAYER}+zstd"),
    "plain": (TAR, adapters.OCI_LAYER),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("guarded"), with_password=True) as running:
        yield running


@pytest.fixture
def files(tmp_path: Path) -> AdapterFiles:
    return AdapterFiles(Cache(tmp_path / "cache"), credentials=tmp_path / "secrets")


async def obtain(files: AdapterFiles, image: str) -> Entry:
    adapter = UserAdapter(name="a", image=image)
    return await files.obtain(adapter, await files.digest(adapter), lambda *_: None)


def push(registry: RunningRegistry, folder: Path, name: str, kind: str = "gzip") -> None:
    blob, media_type = LAYERS[kind]
    layout = oci_layout(folder, [adapters.layer_of(blob, media_type=media_type)], blob)
    registry.push_with_skopeo(layout, name)


@pytest.mark.parametrize("kind", LAYERS)
async def test_kaitos_layout_in_every_compression(
    registry: RunningRegistry, files: AdapterFiles, tmp_path: Path, kind: str
) -> None:
    push(registry, tmp_path / "layout", f"team/{kind}:v1", kind)
    entry = await obtain(files, registry.image(f"team/{kind}:v1"))
    check(entry.folder, Base(max_lora_rank=8))
    assert (await obtain(files, registry.image(f"team/{kind}@{entry.digest}"))).folder == entry.folder


async def test_an_oras_artifact(registry: RunningRegistry, files: AdapterFiles, tmp_path: Path) -> None:
    contents = adapters.files("")
    title = "org.opencontainers.image.title"
    layers = [
        adapters.layer_of(blob, media_type=adapters.OCI_LAYER, **{title: name}) for name, blob in contents.items()
    ]
    registry.push_with_skopeo(oci_layout(tmp_path / "layout", layers, *contents.values()), "team/oras:v1")
    entry = await obtain(files, registry.image("team/oras:v1"))
    assert {path.name: path.read_bytes() for path in entry.folder.iterdir()} == contents


async def test_a_moved_tag(registry: RunningRegistry, files: AdapterFiles, tmp_path: Path) -> None:
    push(registry, tmp_path / "first", "team/moves:latest", "gzip")
    before = await obtain(files, registry.image("team/moves"))
    push(registry, tmp_path / "second", "team/moves:latest", "plain")
    assert (await obtain(files, registry.image("team/moves"))).digest != before.digest


async def test_no_such_image(registry: RunningRegistry, files: AdapterFiles) -> None:
    with pytest.raises(ImageNotFound, match="push it first"):
        await obtain(files, registry.image("team/absent:v1"))


async def test_a_password_added_later(guarded: RunningRegistry, files: AdapterFiles, tmp_path: Path) -> None:
    push(guarded, tmp_path / "layout", "team/a:v1")
    with pytest.raises(RegistryDenied, match="imagePullSecrets"):
        await obtain(files, guarded.image("team/a:v1"))
    adapters.write(tmp_path / "secrets", {"a-wrong-one": guarded.docker_config().replace("horse", "cow").encode()})
    with pytest.raises(RegistryDenied):
        await obtain(files, guarded.image("team/a:v1"))
    adapters.write(tmp_path / "secrets", {"the-right-one": guarded.docker_config().encode()})
    assert (await obtain(files, guarded.image("team/a:v1"))).folder.is_dir()


async def test_a_pull_that_was_cut_goes_on(registry: RunningRegistry, files: AdapterFiles, tmp_path: Path) -> None:
    push(registry, tmp_path / "layout", "team/cut:v1")
    adapter = UserAdapter(name="a", image=registry.image("team/cut:v1"))
    digest = await files.digest(adapter)
    blob = LAYERS["gzip"][0]
    part = f"partial/{digest.replace(':', '-')}/{adapters.digest(blob).replace(':', '-')}.part"
    adapters.write(tmp_path / "cache", {part: blob[: len(blob) // 2]})
    seen: list[int] = []
    entry = await files.obtain(adapter, digest, lambda done, _: seen.append(done))
    check(entry.folder, Base(max_lora_rank=8))
    assert seen[0] > len(blob) // 2
