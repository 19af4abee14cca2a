import io
import json
import tarfile
from pathlib import Path

import pytest

from kaito_ray.errors import InvalidWorkspace
from tests import adapters
from tests.unit.deployments.adapters.memory_registry import MemoryRegistry
from tuning import data_image

IMAGE = "r.io/team/a:v1"
ROW = json.dumps({"text": "word"}).encode()


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


def fetch(memory: MemoryRegistry, directory: Path, **options: int) -> dict[str, bytes]:
    found = data_image.fetch(IMAGE, directory / "data", transport=memory.transport(), **options)
    return {str(p.relative_to(found)): p.read_bytes() for p in found.rglob("*") if p.is_file()}


def test_the_data_folder_of_every_layer_is_taken_and_nothing_else(memory: MemoryRegistry, tmp_path: Path) -> None:
    base = adapters.tar({"data/a.jsonl": b"old", "data/gone.jsonl": ROW, "etc/passwd.csv": ROW, "data/run.sh": b"x"})
    top = adapters.tar({"data/a.jsonl": ROW, "data/.wh.gone.jsonl": b"", "data/more/b.csv": b"text\nword\n"})
    memory.push("v1", base, top)
    assert fetch(memory, tmp_path) == {"a.jsonl": ROW, "more/b.csv": b"text\nword\n"}


def test_what_is_there_is_not_fetched_again(memory: MemoryRegistry, tmp_path: Path) -> None:
    memory.push("v1", adapters.tar({"data/a.jsonl": ROW}))
    fetch(memory, tmp_path)
    asked = len(memory.requests)
    fetch(memory, tmp_path)
    assert len(memory.requests) == asked


def link() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("data/a.jsonl")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)
    return out.getvalue()


def sparse() -> bytes:
    """A file of no bytes in the archive that claims a MiB: in GNU's old format, the real size stands at byte 483."""
    entry = tarfile.TarInfo("data/a.jsonl")
    entry.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**20
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return bytes(header) + bytes(1024)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        pytest.param(adapters.tar({"data/../../x.jsonl": ROW}), "leads out of the image", id="a path that leaves"),
        pytest.param(link(), "file below data/", id="a link is no file"),
        pytest.param(sparse(), "file below data/", id="a sparse file is no plain file"),
        pytest.param(adapters.tar({"other/a.jsonl": ROW}), "file below data/", id="nothing in data"),
        pytest.param(b"no archive at all", "no readable tar archive", id="broken"),
    ],
)
def test_refused(memory: MemoryRegistry, tmp_path: Path, layer: bytes, words: str) -> None:
    memory.push("v1", layer)
    with pytest.raises(InvalidWorkspace, match=words) as refused:
        fetch(memory, tmp_path)
    assert refused.value.field == data_image.FIELD
    assert not (tmp_path / "data").exists()


def test_a_layer_that_unpacks_to_too_much_is_stopped(memory: MemoryRegistry, tmp_path: Path) -> None:
    memory.push("v1", adapters.tar({"data/a.jsonl": bytes(2**20)}))
    with pytest.raises(InvalidWorkspace, match="bytes"):
        fetch(memory, tmp_path, limit_bytes=2**16)


def test_a_file_longer_than_a_header_may_be_is_taken_whole(memory: MemoryRegistry, tmp_path: Path) -> None:
    rows = ROW * (2**21 // len(ROW))
    memory.push("v1", adapters.tar({"data/a.jsonl": rows}))
    assert fetch(memory, tmp_path) == {"a.jsonl": rows}
