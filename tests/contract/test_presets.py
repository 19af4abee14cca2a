"""Every preset loads, is found by each of its names, and can be planned; the planner and the docs read the same files."""

import pytest

from kaito_ray.catalog.gpus import machine, machines
from kaito_ray.catalog.load import find, presets, presets_dir
from kaito_ray.catalog.models import Mamba, ModelPreset
from kaito_ray.estimator.plan import ServingOptions, cheapest, plan_serving

ALL = list(presets().values())
NAMED = pytest.mark.parametrize("preset", ALL, ids=lambda p: p.name)


def test_there_are_sixty_models_of_kaito_and_two_for_a_laptop() -> None:
    assert len(ALL) == 62
    assert {"smollm2-135m-instruct", "all-minilm-l6-v2"} <= presets().keys()


def test_no_two_presets_share_a_name() -> None:
    names = [name for preset in ALL for name in preset.names]
    assert len(names) == len(set(names))


@NAMED
def test_every_name_finds_it(preset: ModelPreset) -> None:
    assert all(find(name) == preset for name in preset.names)


@NAMED
def test_it_can_be_served_on_some_machine_of_azure(preset: ModelPreset) -> None:
    assert cheapest(preset, machines("azure"), ServingOptions()).context_length_tokens >= min(
        2048, preset.max_model_len
    )


@NAMED
def test_its_layers_add_up(preset: ModelPreset) -> None:
    shape = preset.shape
    assert all(g.layers <= shape.layers for g in shape.groups)
    mixers = sum(g.layers for g in shape.groups if g.kind in {"full", "sliding", "delta", "mamba"})
    assert mixers <= shape.layers
    # What keeps nothing: encoders, feed-forward layers of a Mamba model, and layers that share another's cache (Gemma 4 E).
    keeps_all = bool(shape.groups) and not any(isinstance(g, Mamba) for g in shape.groups) and "-e" not in preset.name
    latent = any(g.kind == "latent" for g in shape.groups)
    assert latent or not keeps_all or mixers == shape.layers


@NAMED
def test_it_says_where_its_weights_are(preset: ModelPreset) -> None:
    assert preset.source.hub
    assert preset.source.hub.count("/") == 1
    package = (preset.source.package, preset.source.package_file, preset.source.package_sha256)
    assert all(package) or not any(package)


def test_the_quick_start_s_model_fits_the_machine_that_replaces_its_own() -> None:
    a10 = machine("Standard_NV36ads_A10_v5")
    assert a10 is not None
    assert plan_serving(find("phi-3-mini-4k-instruct"), a10, ServingOptions()).nodes == 1


def test_the_readme_names_every_field() -> None:
    text = (presets_dir() / "README.md").read_text(encoding="utf-8")
    shape_fields = ModelPreset.model_fields["shape"].annotation.model_fields
    fields = [f.alias for f in ModelPreset.model_fields.values()] + [f"shape.{f.alias}" for f in shape_fields.values()]
    missing = [f for f in fields if f"| {f}" not in text and f"{f}." not in text]
    assert missing == []
