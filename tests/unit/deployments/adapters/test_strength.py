from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.adapters.cache import tree_bytes
from deployments.adapters.strength import scaled
from tests import adapters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapters.write(tmp_path / "adapter", adapters.files("", lora_alpha=8, use_rslora=True))


def test_full_strength_is_the_adapter_itself(folder: Path) -> None:
    assert scaled(folder, 1.0) == folder


@pytest.mark.parametrize(("strength", "alpha"), [(0.0, 0.0), (0.5, 4.0), (0.25, 2.0)])
def test_strength_scales_alpha_and_nothing_else(folder: Path, strength: float, alpha: float) -> None:
    target = scaled(folder, strength)
    before, after = (json.loads((f / "adapter_config.json").read_bytes()) for f in (folder, target))
    assert after == {**before, "lora_alpha": alpha}
    assert (target / "adapter_model.safetensors").samefile(folder / "adapter_model.safetensors")


def test_the_weights_are_on_disk_once(folder: Path) -> None:
    before = tree_bytes(folder)
    target = scaled(folder, 0.5)
    assert tree_bytes(folder) - before == (target / "adapter_config.json").stat().st_size


def test_it_is_made_once_and_leaves_nothing_behind(folder: Path) -> None:
    assert scaled(folder, 0.5) == scaled(folder, 0.5)
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "strength-0.5",
    ]
