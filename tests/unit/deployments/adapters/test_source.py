from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.adapters import source
from deployments.adapters.cache import Cache, Entry
from deployments.adapters.extract import Limits
from deployments.adapters.source import AdapterFiles
from kaito_ray.api.app_args import UserAdapter
from kaito_ray.errors import AdapterRefused, InvalidWorkspace
from tests import adapters
from tests.unit.deployments.adapters.memory_registry import MemoryRegistry

IMAGE = UserAdapter(name="a", image="r.io/team/a:v1")
PACKED = adapters.gzipped(adapters.tar(adapters.files()))


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def files(tmp_path: Path, memory: MemoryRegistry) -> AdapterFiles:
    return AdapterFiles(Cache(tmp_path / "cache"), credentials=tmp_path / "secrets", transport=memory.transport())


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is `/mnt/volume` to the container."""
    monkeypatch.setenv("KAITO_RAY_MOUNT_ROOT", str(tmp_path / "rootfs"))
    folder = tmp_path / "rootfs" / "mnt" / "volume"
    folder.mkdir(parents=True)
    return folder


def names(entry: Entry) -> list[str]:
    return sorted(path.name for path in entry.folder.iterdir())


async def obtain(files: AdapterFiles, adapter: UserAdapter) -> Entry:
    return await files.obtain(adapter, await files.digest(adapter), lambda *_: None)


async def test_an_image_is_pulled_once(files: AdapterFiles, memory: MemoryRegistry) -> None:
    digest = memory.push("v1", PACKED)
    first, second = await obtain(files, IMAGE), await obtain(files, IMAGE)
    assert first.digest == second.digest == digest
    assert names(first) == ["adapter_config.json", "adapter_model.safetensors"]
    assert len(memory.paths("blobs")) == 1


async def test_progress_counts_all_layers(files: AdapterFiles, memory: MemoryRegistry) -> None:
    other = adapters.gzipped(adapters.tar({"etc/os-release": b"x"}))
    digest = memory.push("v1", other, PACKED)
    seen: list[tuple[int, int]] = []
    await files.obtain(IMAGE, digest, lambda done, of: seen.append((done, of)))
    assert seen == [(len(other), len(other) + len(PACKED)), (len(other) + len(PACKED), len(other) + len(PACKED))]


async def test_a_moved_tag_is_another_adapter(files: AdapterFiles, memory: MemoryRegistry) -> None:
    memory.push("v1", PACKED)
    before = await obtain(files, IMAGE)
    memory.push("v1", adapters.tar(adapters.files(r=2)))
    assert (await obtain(files, IMAGE)).digest != before.digest


async def test_a_layer_that_is_here_is_not_pulled_again_after_a_failure(
    files: AdapterFiles, memory: MemoryRegistry
) -> None:
    broken = b"no archive"
    memory.push("v1", PACKED, broken)
    for _ in range(2):
        with pytest.raises(AdapterRefused, match="no readable tar"):
            await obtain(files, IMAGE)
    assert len(memory.paths("blobs")) == 2
    memory.push("v1", PACKED)
    assert names(await obtain(files, IMAGE)) == ["adapter_config.json", "adapter_model.safetensors"]


async def test_an_image_too_large_is_not_even_pulled(tmp_path: Path, memory: MemoryRegistry) -> None:
    memory.push("v1", PACKED)
    files = AdapterFiles(
        Cache(tmp_path / "cache"), limits=Limits(unpacked_bytes=10), transport=memory.transport(), credentials=tmp_path
    )
    with pytest.raises(AdapterRefused, match="more than the 10 that are allowed"):
        await obtain(files, IMAGE)
    assert memory.paths("blobs") == []


async def test_credentials_added_later_are_used(files: AdapterFiles, memory: MemoryRegistry, tmp_path: Path) -> None:
    memory.push("v1", PACKED)
    (tmp_path / "secrets").mkdir()
    auth = base64.b64encode(b"me:p").decode()
    (tmp_path / "secrets" / "pull").write_text(json.dumps({"auths": {"r.io": {"auth": auth}}}))
    challenge = httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
    memory.meddle = lambda request: None if request.headers.get("Authorization") == f"Basic {auth}" else challenge
    assert names(await obtain(files, IMAGE)) == ["adapter_config.json", "adapter_model.safetensors"]


async def test_what_is_no_reference_names_the_adapter(files: AdapterFiles) -> None:
    with pytest.raises(InvalidWorkspace, match="adapter a: image: 'Not An Image'"):
        await files.digest(UserAdapter(name="a", image="Not An Image"))


async def test_neither_image_nor_volume(files: AdapterFiles) -> None:
    with pytest.raises(AdapterRefused, match="adapter a has neither"):
        await files.digest(UserAdapter(name="a"))


@pytest.mark.parametrize("prefix", ["", "data/", "checkpoint-9/"])
async def test_a_volume_is_copied_so_that_nobody_changes_it(files: AdapterFiles, volume: Path, prefix: str) -> None:
    adapters.write(volume, adapters.files(prefix))
    adapter = UserAdapter(name="a", path="/mnt/volume")
    entry = await obtain(files, adapter)
    (volume / prefix / "adapter_config.json").write_bytes(b"changed")
    assert (entry.folder / "adapter_config.json").read_bytes() == adapters.config_bytes()
    assert await files.digest(adapter) != entry.digest


async def test_a_config_map_volume_of_links(files: AdapterFiles, volume: Path) -> None:
    adapters.write(volume / "..2026_01_01", adapters.files(""))
    (volume / "..data").symlink_to("..2026_01_01")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (volume / name).symlink_to(Path("..data") / name)
    entry = await obtain(files, UserAdapter(name="a", path="/mnt/volume"))
    assert not [path for path in entry.folder.iterdir() if path.is_symlink()]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({}, "there is no adapter_config.json"),
        ({"adapter_config.json": b"{}"}, "there is no adapter_model.safetensors"),
        ({"adapter_config.json": b"{}", "adapter_model.bin": b""}, "is a pickle"),
        ({**adapters.files("a/"), **adapters.files("b/")}, "several adapters, in a, b"),
    ],
)
async def test_volumes_without_an_adapter(
    files: AdapterFiles, volume: Path, contents: dict[str, bytes], words: str
) -> None:
    adapters.write(volume, contents)
    with pytest.raises(AdapterRefused, match=words):
        await files.digest(UserAdapter(name="a", path="/mnt/volume"))


async def test_a_volume_that_is_not_mounted(files: AdapterFiles, volume: Path) -> None:
    with pytest.raises(AdapterRefused, match=r"/mnt/other is no directory.*volumeSource"):
        await files.digest(UserAdapter(name="a", path="/mnt/other"))


async def test_a_volume_written_to_while_it_is_read(files: AdapterFiles, volume: Path) -> None:
    adapters.write(volume, adapters.files(""))
    adapter = UserAdapter(name="a", path="/mnt/volume")
    digest = await files.digest(adapter)
    (volume / "adapter_config.json").write_bytes(b"changed")
    with pytest.raises(source.VolumeChanged, match="changed while it was read"):
        await files.obtain(adapter, digest, lambda *_: None)
