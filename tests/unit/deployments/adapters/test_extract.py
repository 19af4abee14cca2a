from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from deployments.adapters.extract import Limits, Unpacker, adapter_folder, weights_name
from kaito_ray.errors import AdapterRefused
from kaito_ray.registry.client import Layer
from tests import adapters

TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
CONFIG = adapters.config_bytes()
WEIGHTS = adapters.weights_bytes()


class Folders:
    """Where an archive is unpacked, and what lies outside of it."""

    def __init__(self, tmp_path: Path) -> None:
        self.all, self.scratch, self.target = tmp_path, tmp_path / "scratch", tmp_path / "target"
        self.scratch.mkdir()
        self.target.mkdir()

    def unpack(self, *blobs: bytes, limits: Limits | None = None, **annotations: str) -> None:
        self.unpack_layers([(blob, annotations) for blob in blobs], limits)

    def unpack_layers(self, layers: list[tuple[bytes, dict[str, str]]], limits: Limits | None = None) -> None:
        unpacker = Unpacker(self.scratch, limits or Limits())
        for number, (blob, marks) in enumerate(layers):
            path = self.all / f"blob-{number}"
            path.write_bytes(blob)
            unpacker.add(Layer(adapters.digest(blob), len(blob), annotations=marks), path)
        unpacker.finish(self.target)

    def assert_is_the_adapter(self) -> None:
        assert {path.name: path.read_bytes() for path in self.target.iterdir()} == {
            "adapter_config.json": CONFIG,
            "adapter_model.safetensors": WEIGHTS,
        }

    def assert_nothing_escaped(self) -> None:
        outside = [p for p in self.all.rglob("*") if not p.name.startswith("blob-")]
        ours = {self.scratch, self.target}
        assert [p for p in outside if not ours & {p, *p.parents}] == []
        assert not [p for p in outside if p.is_symlink() or not (p.is_file() or p.is_dir())]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("packed", [adapters.gzipped, adapters.zstd, bytes], ids=["gzip", "zstd", "plain"])
@pytest.mark.parametrize("prefix", ["data/", "./data/", "", "out/my-adapter/", "workspace/results/checkpoint-12/"])
def test_every_compression_and_folder(folders: Folders, packed: Callable[[bytes], bytes], prefix: str) -> None:
    folders.unpack(packed(adapters.tar(adapters.files(prefix))))
    folders.assert_is_the_adapter()


def test_several_zstd_frames_are_one_archive(folders: Folders) -> None:
    whole = adapters.tar(adapters.files())
    folders.unpack(adapters.zstd(whole[:700]) + adapters.zstd(whole[700:]))
    folders.assert_is_the_adapter()


def test_an_oras_artifact_of_the_two_files(folders: Folders) -> None:
    folders.unpack_layers([(CONFIG, {TITLE: "adapter_config.json"}), (WEIGHTS, {TITLE: "adapter_model.safetensors"})])
    folders.assert_is_the_adapter()


def test_an_oras_artifact_of_a_folder(folders: Folders) -> None:
    packed = adapters.gzipped(adapters.tar(adapters.files("my-adapter/")))
    folders.unpack(packed, **{TITLE: "my-adapter", UNPACK: "true"})
    folders.assert_is_the_adapter()


def test_weights_of_another_name_get_pefts(folders: Folders) -> None:
    folders.unpack(adapters.tar({"data/adapter_config.json": CONFIG, "data/lora.safetensors": WEIGHTS}))
    folders.assert_is_the_adapter()


def test_an_image_built_on_a_distribution(folders: Folders) -> None:
    base = adapters.tar({"etc/passwd": b"root"}, link("bin", "usr/bin"), link("usr/bin/perl", "usr/bin/perl5", b"1"))
    top = adapters.tar({**adapters.files(), "data/training_args.bin": b"pickle", "data/README.md": b"hello"})
    folders.unpack(base, top)
    folders.assert_is_the_adapter()
    folders.assert_nothing_escaped()


def test_kaitos_folder_wins_over_checkpoints(folders: Folders) -> None:
    checkpoint = adapters.files("data/checkpoint-3/", r=99)
    folders.unpack(adapters.tar({**checkpoint, **adapters.files()}))
    folders.assert_is_the_adapter()


def test_a_later_layer_replaces_a_file(folders: Folders) -> None:
    folders.unpack(adapters.tar(adapters.files(r=99)), adapters.tar({"data/adapter_config.json": CONFIG}))
    folders.assert_is_the_adapter()


@pytest.mark.parametrize("whiteout", ["old/.wh..wh..opq", ".wh.old", "old/.wh.adapter_config.json"])
def test_a_later_layer_deletes_what_a_lower_one_brought(folders: Folders, whiteout: str) -> None:
    folders.unpack(
        adapters.tar(adapters.files("old/", r=99)), adapters.tar({whiteout: b""}), adapters.tar(adapters.files("new/"))
    )
    folders.assert_is_the_adapter()


HOSTILE = {
    "a path above the folder": adapters.tar({"data/../../evil.safetensors": WEIGHTS, **adapters.files()}),
    "an absolute path": adapters.tar({"/tmp/evil.safetensors": WEIGHTS, **adapters.files()}),
    "the folder is a link": adapters.tar(adapters.files(), link("data", "/etc")),
    "the weights are a link": adapters.tar(
        {"data/adapter_config.json": CONFIG}, link("data/adapter_model.safetensors", "/etc/passwd")
    ),
    "the config is a link": adapters.tar(
        {"data/adapter_model.safetensors": WEIGHTS}, link("data/adapter_config.json", "/etc/passwd")
    ),
    "the weights are a hard link": adapters.tar(
        {"data/adapter_config.json": CONFIG}, link("data/adapter_model.safetensors", "etc/shadow", tarfile.LNKTYPE)
    ),
    "a link beside the files": adapters.tar(adapters.files(), link("data/x", "..")),
    "a device": adapters.tar(adapters.files(), link("data/x", "", tarfile.CHRTYPE)),
    "a pipe": adapters.tar(adapters.files(), link("data/adapter_model.safetensors.x", "", tarfile.FIFOTYPE)),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archives_are_refused_and_leave_nothing(folders: Folders, archive: bytes) -> None:
    with pytest.raises(AdapterRefused, match=r"leaves the adapter's folder|may hold plain files only"):
        folders.unpack(adapters.gzipped(archive))
    assert list(folders.target.iterdir()) == []
    folders.assert_nothing_escaped()


def test_a_file_written_through_a_link_of_the_archive(folders: Folders) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        archive.addfile(link("data/sub", str(folders.all)))
        info = tarfile.TarInfo("data/sub/evil.safetensors")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(AdapterRefused):
        folders.unpack(inner.getvalue())
    folders.assert_nothing_escaped()


@pytest.mark.parametrize("title", ["../evil.safetensors", "/tmp/evil.safetensors"])
def test_a_title_that_leaves_the_folder(folders: Folders, title: str) -> None:
    with pytest.raises(AdapterRefused, match="leaves the adapter's folder"):
        folders.unpack(WEIGHTS, **{TITLE: title})
    folders.assert_nothing_escaped()


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", "pytorch_model.bin"])
def test_pickles_are_never_read(folders: Folders, name: str) -> None:
    with pytest.raises(AdapterRefused, match=rf"{name} is a pickle.*safe_serialization=True"):
        folders.unpack(adapters.tar({"data/adapter_config.json": CONFIG, f"data/{name}": b"\x80\x04."}))
    assert not [path for path in folders.scratch.iterdir() if path.read_bytes() == b"\x80\x04."]


def test_files_larger_than_allowed(folders: Folders) -> None:
    with pytest.raises(AdapterRefused, match="more than the 100 that are allowed"):
        folders.unpack(adapters.tar(adapters.files()), limits=Limits(files_bytes=100))


def test_a_config_larger_than_allowed(folders: Folders) -> None:
    with pytest.raises(AdapterRefused, match=r"adapter_config\.json has .* more than the 10"):
        folders.unpack(adapters.tar(adapters.files()), limits=Limits(config_bytes=10))


def test_a_bomb_of_zeros_that_nobody_asked_for(folders: Folders) -> None:
    bomb = adapters.gzipped(adapters.tar({"zeros": bytes(2**20), **adapters.files()}))
    with pytest.raises(AdapterRefused, match="unpack to more than 100000 bytes"):
        folders.unpack(bomb, limits=Limits(unpacked_bytes=100_000))


def test_more_entries_than_allowed(folders: Folders) -> None:
    many = {f"file-{number}": b"" for number in range(20)}
    with pytest.raises(AdapterRefused, match="more than 10 entries"):
        folders.unpack(adapters.tar({**many, **adapters.files()}), limits=Limits(members=10))


def test_a_header_that_would_fill_the_memory(folders: Folders) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 3 * 2**30
    with pytest.raises(AdapterRefused, match="header claims 3221225472 bytes"):
        folders.unpack(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_a_sparse_file_of_no_bytes_and_many(folders: Folders) -> None:
    sparse = tarfile.TarInfo("data/adapter_model.safetensors")
    sparse.type = tarfile.GNUTYPE_SPARSE
    with pytest.raises(AdapterRefused, match="sparse file"):
        folders.unpack(adapters.tar({"data/adapter_config.json": CONFIG}, sparse))


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"not an archive at all" * 100, id="text"),
        pytest.param(adapters.gzipped(adapters.tar(adapters.files()))[:-200], id="cut gzip"),
        pytest.param(adapters.zstd(adapters.tar(adapters.files()))[:-20], id="cut zstd"),
        pytest.param(adapters.gzipped(adapters.tar(adapters.files()))[:40] + os.urandom(400), id="damaged gzip"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(100), id="damaged zstd"),
        pytest.param(adapters.tar(adapters.files())[:1800], id="cut tar"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_broken_archives_are_refused_in_words(folders: Folders, archive: bytes) -> None:
    with pytest.raises(AdapterRefused, match=r"no readable tar archive|there is no adapter_model"):
        folders.unpack(archive)


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        (["data/adapter_config.json", "x/adapter_config.json"], "data"),
        (["adapter_config.json", "checkpoint-1/adapter_config.json"], "."),
        (["a/b/adapter_config.json", "c/other.json"], "a/b"),
    ],
)
def test_adapter_folder(files: list[str], folder: str) -> None:
    assert str(adapter_folder([PurePosixPath(file) for file in files])) == folder


def test_several_adapters_are_named() -> None:
    with pytest.raises(AdapterRefused, match="several adapters, in a, b;"):
        adapter_folder([PurePosixPath("b/adapter_config.json"), PurePosixPath("a/adapter_config.json")])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "there is no adapter_model.safetensors"),
        (["a.safetensors", "b.safetensors"], "several weight files"),
        (["adapter_model.bin"], "pickle"),
    ],
)
def test_no_weights_to_use(names: list[str], words: str) -> None:
    with pytest.raises(AdapterRefused, match=words):
        weights_name(names)
