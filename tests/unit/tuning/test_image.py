import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tuning.image import build


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "report.json").write_text("not part of the image")
    return tmp_path


def test_the_layer_holds_the_two_files_below_data(adapter: Path) -> None:
    layer, _ = build(adapter, {}).blobs
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.data))) as tar:
        assert tar.getnames() == ["data", "data/adapter_config.json", "data/adapter_model.safetensors"]


def test_the_manifest_is_kaitos(adapter: Path) -> None:
    image = build(adapter, {"sh.kaito.model.name": "phi-4"})
    layer, config = image.blobs
    manifest = json.loads(image.manifest.data)
    assert manifest["annotations"] == {"sh.kaito.model.name": "phi-4"}
    assert [entry["mediaType"] for entry in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    assert manifest["layers"][0]["digest"] == layer.digest
    diff_id = "sha256:" + hashlib.sha256(gzip.decompress(layer.data)).hexdigest()
    assert json.loads(config.data) == {"rootfs": {"type": "layers", "diff_ids": [diff_id]}}


def test_equal_adapters_give_equal_images(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (other / name).write_bytes((adapter / name).read_bytes())
    assert build(adapter, {"a": "b"}) == build(other, {"a": "b"})
