"""Every example can be applied as it is, once its placeholders are replaced; and until then it is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from kaito_ray.api.admission import refusals
from kaito_ray.api.crd import crd
from kaito_ray.catalog.load import find, presets
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.template import deployment
from kaito_ray.testing.plans import gpu_plan, inputs, template_inputs
from tests.contract.test_manifests import unknown

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("**/*.yaml"))
PLACEHOLDER = re.compile(r"[A-Z_]+_HERE")
KNOWN = {name for preset in presets().values() for name in preset.names}


def test_there_are_examples_of_both_kinds() -> None:
    assert {path.parent.name for path in EXAMPLES} == {"inference", "tuning"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_admitted_once_its_placeholders_are_replaced(path: Path) -> None:
    manifest = yaml.safe_load(PLACEHOLDER.sub("mine", path.read_text()))
    assert refusals(manifest, presets=KNOWN) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_placeholder_is_refused_by_name(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    words = " ".join(str(fault) for fault in refusals(manifest, presets=KNOWN))
    assert set(PLACEHOLDER.findall(words)) == set(PLACEHOLDER.findall(yaml.safe_dump(manifest)))


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.parent.name == "tuning"], ids=lambda path: path.stem)
def test_a_tuning_example_names_a_model_that_can_be_tuned(path: Path) -> None:
    assert find(yaml.safe_load(path.read_text())["tuning"]["preset"]["name"]).tuning


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_satisfies_the_crd_and_has_no_field_that_it_lacks(path: Path) -> None:
    manifest = yaml.safe_load(path.read_text())
    schema = next(v for v in crd()["spec"]["versions"] if v["storage"])["schema"]["openAPIV3Schema"]
    jsonschema_rs.validator_for(schema).validate(manifest)
    assert list(unknown(schema, manifest)) == []


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.parent.name == "inference"], ids=lambda path: path.stem)
def test_an_inference_example_renders(path: Path) -> None:
    manifest = yaml.safe_load(PLACEHOLDER.sub("mine", path.read_text()))
    manifest["metadata"] |= {"namespace": "default", "uid": "uid-1"}
    if "template" in manifest["inference"]:
        own = template_inputs(manifest)
        assert (deployment(own)["kind"], nodepool(own)["kind"]) == ("Deployment", "NodePool")
        return
    made = inputs(manifest, gpu_plan())
    assert rayservice(made)["kind"] == "RayService"
    assert nodepool(made)["kind"] == "NodePool"


def test_every_feature_has_an_example() -> None:
    shown = " ".join(path.read_text() for path in EXAMPLES)
    for field in (
        *("instanceType", "instanceTypes", "capacityTypes", "zones", "matchLabels", "partition", "template"),
        *("modelAccessSecret", "image", "revision", "config", "apiKeysSecret", "limits", "adapters", "strength"),
        *("imagePullSecrets", "volumeSource", "workspace", "urls", "method", "imagePushSecret"),
        *("kaito.sh/enablelb", "kaito.sh/performance-mode", "kaito.sh/node-class-name"),
    ):
        assert re.search(rf"\b{re.escape(field)}:", shown), field


def test_examples_can_be_applied_side_by_side() -> None:
    names = [yaml.safe_load(path.read_text())["metadata"]["name"] for path in EXAMPLES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["workspace_smollm2.yaml", "workspace_phi_3.yaml"])
def test_the_quick_start_page_shows_the_manifest_that_it_applies(name: str) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    shown = [
        yaml.safe_load(block)
        for block in re.findall(r"^apiVersion:.*?(?=^\$|^```|\n\n)", page, re.MULTILINE | re.DOTALL)
    ]
    assert yaml.safe_load((ROOT / "examples" / "inference" / name).read_text()) in shown
