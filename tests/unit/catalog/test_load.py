from pathlib import Path

import pytest

from kaito_ray.catalog import load
from kaito_ray.errors import UnknownPreset

SMALL = """
name: {name}
source: {{hub: org/Small}}
license: mit
weightsBytes: 10
maxModelLen: 10
shape:
  architecture: LlamaForCausalLM
  hiddenSize: 8
  layers: 1
  heads: 1
  groups: [{{kind: full, layers: 1, kvHeads: 1, headDim: 8}}]
{more}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load, "presets_dir", lambda: tmp_path)
    for cached in (load.presets, load._by_any_name):
        cached.cache_clear()
    yield tmp_path
    for cached in (load.presets, load._by_any_name):
        cached.cache_clear()


def test_a_name_an_alias_and_a_hub_id_find_the_same_whatever_their_case() -> None:
    wanted = load.find("mistral-7b-v0.3")
    assert load.find("Mistral-7B") is wanted
    assert load.find("MistralAI/mistral-7b-V0.3") is wanted


def test_a_preset_s_own_name_reads_one_file(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.format(name="small", more=""))
    (folder / "broken.yaml").write_text("name: [")
    assert load.find("small").source.hub == "org/Small"


def test_an_unknown_name_suggests_near_ones_and_names_the_field() -> None:
    with pytest.raises(UnknownPreset, match=r"tuning.preset.name: no preset is named 'phi4'; did you mean .*phi-4"):
        load.find("phi4", field="tuning.preset.name")


def test_a_path_is_no_name() -> None:
    with pytest.raises(UnknownPreset):
        load.find("../presets/phi-4")


def test_an_unknown_field_names_the_file_and_the_field(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.format(name="small", more="wieghts: 3"))
    with pytest.raises(ValueError, match=r"(?s)small.yaml: .*wieghts"):
        load.find("small")


def test_a_file_that_is_named_otherwise_is_refused(folder: Path) -> None:
    (folder / "small.yaml").write_text(SMALL.format(name="tiny", more=""))
    with pytest.raises(ValueError, match=r"`name` is 'tiny'; it must be the file's own name, 'small'"):
        load.presets()


def test_presets_are_sorted_by_name(folder: Path) -> None:
    for name in ("b", "a"):
        (folder / f"{name}.yaml").write_text(SMALL.format(name=name, more=""))
    assert list(load.presets()) == ["a", "b"]
