import json
from pathlib import Path

import pytest

from kaito_ray.weights.progress import Progress
from kaito_ray.weights.store import MANIFEST, Store, damage, directory_name, write_manifest


class Interrupted(Exception):
    pass


class Made:
    """Counts how often it was asked to make the directory."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, to: Path) -> None:
        self.times += 1
        (to / "sub").mkdir(exist_ok=True)
        (to / "model.safetensors").write_bytes(b"weights")
        (to / "sub" / "config.json").write_text("{}")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> Store:
    return Store(tmp_path / "models", Progress(said.append))


def test_what_is_there_is_not_made_again(store: Store) -> None:
    make = Made()
    assert store.get("key", make) == store.get("key", make)
    assert make.times == 1


def test_another_source_has_another_directory(store: Store) -> None:
    assert store.get("hub a main", Made()) != store.get("hub a v2", Made())


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda d: (d / "model.safetensors").write_bytes(b"wEights"), id="another content of that size"),
        pytest.param(lambda d: (d / "model.safetensors").write_bytes(b"w"), id="truncated"),
        pytest.param(lambda d: (d / "sub" / "config.json").unlink(), id="a file is missing"),
        pytest.param(lambda d: (d / MANIFEST).unlink(), id="no manifest"),
        pytest.param(lambda d: (d / MANIFEST).write_text("{"), id="a broken manifest"),
    ],
)
def test_a_damaged_directory_is_noticed_and_made_again(store: Store, said: list[str], harm) -> None:
    make = Made()
    directory = store.get("key", make)
    harm(directory)
    assert damage(store.get("key", make)) is None
    assert make.times == 2
    assert "is damaged" in said[0]


def test_an_interrupted_run_leaves_no_directory_and_resumes(store: Store, tmp_path: Path) -> None:
    def half(to: Path) -> None:
        (to / "half").write_text("downloaded")
        raise Interrupted

    with pytest.raises(Interrupted):
        store.get("key", half)
    assert not (tmp_path / "models" / directory_name("key")).exists()
    found: list[bool] = []
    store.get("key", lambda to: found.append((to / "half").exists()))
    assert found == [True]


def test_a_large_model_is_trusted_by_size_and_time(tmp_path: Path) -> None:
    Made()(tmp_path)
    write_manifest(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["model.safetensors"]["sha256"] = "0" * 64
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert damage(tmp_path, hash_limit_bytes=1) is None
    assert damage(tmp_path) == "model.safetensors has another SHA-256"


def test_a_large_model_that_was_touched_is_hashed(tmp_path: Path) -> None:
    Made()(tmp_path)
    write_manifest(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"wEights")
    assert damage(tmp_path, hash_limit_bytes=1) == "model.safetensors has another SHA-256"


def test_directory_names_are_readable_and_unique() -> None:
    assert directory_name("hub org/model main").startswith("hub-org-model-main-")
    assert directory_name("a b") != directory_name("a/b")
