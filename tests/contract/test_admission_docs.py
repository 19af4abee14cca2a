"""docs/admission.md says what is refused; each rule and each annotation that it claims is tried here, by its row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kaito_ray.api.admission import refusals, warnings
from kaito_ray.api.workspace import Workspace
from kaito_ray.catalog.load import presets
from kaito_ray.controller.kaito import made_by_karpenter_for
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.service import service
from kaito_ray.testing.builders import TUNING, adapter, merged, workspace
from kaito_ray.testing.plans import inputs

Manifest = dict[str, Any]
PAGE = (Path(__file__).parents[2] / "docs" / "admission.md").read_text()
RULES = dict(re.findall(r"^\| ([CU]\d+) \|[^|]*\| (holds|later|not needed) \|", PAGE, re.MULTILINE))
KEYS = dict(re.findall(r"^\| (?:label )?`([^`]+/[^`]+)` \| ([a-z, ]+) \|", PAGE, re.MULTILINE))
LABELS = set(re.findall(r"^\| label `([^`]+/[^`]+)`", PAGE, re.MULTILINE))
KNOWN = {name for preset in presets().values() for name in preset.names}
LB, NODE_CLASS = "kaito.sh/enablelb", "kaito.sh/node-class-name"


def serving(**changes: Any) -> Manifest:
    return workspace(**changes)


def annotated(key: str, value: str, **more: Any) -> Manifest:
    return merged(serving(**more), {"metadata": {"annotations": {key: value}}})


def tuning(**changes: Any) -> Manifest:
    return workspace(inference=None, tuning={**TUNING, **changes})


def resource(**changes: Any) -> Manifest:
    return serving(resource=changes)


PARTITION = {"partition": {"mode": "mig", "profile": "1g.10gb"}}
REFUSED: dict[str, tuple[str, Manifest, Manifest | None]] = {
    "C1": ("metadata.name", serving(metadata={"name": "Not_A_Label"}), None),
    "C2": ("inference", serving(tuning=TUNING), None),
    "C5": ("node-image-family", annotated("kaito.sh/node-image-family", "windows"), None),
    "C6": ("performance-mode", annotated("kaito.sh/performance-mode", "fast"), None),
    "C7": ("use-local-weights", annotated("kaito.sh/use-local-weights", "maybe"), None),
    "C9": (
        "matchExpressions[0]",
        resource(labelSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        None,
    ),
    "C10": (
        "matchLabels",
        {**serving(), "resource": {"labelSelector": {"matchLabels": {"kaito.sh/workspace": "x"}}}},
        None,
    ),
    "C11": ("inference", serving(inference={"template": {"spec": {"containers": []}}}), None),
    "C12": ("inference.preset.name", serving(inference={"preset": {"name": "no-such-model"}}), None),
    "C20": ("source.name", serving(inference={"adapters": [adapter("a"), adapter("a")]}), None),
    "C21": ("resource.partition", resource(instanceType="Standard_NC4as_T4_v3", **PARTITION), None),
    "C24": ("partition.profile", resource(partition={"mode": "mig"}), None),
    "C25": ("partition.count", resource(partition={"mode": "accelerator"}), None),
    "C29": ("tuning.method", tuning(method="full"), None),
    "C31": ("tuning.input", tuning(input={"urls": ["http://169.254.169.254/data"]}), None),
    "C32": ("imagePushSecret", tuning(output={"image": "r.example.com/a:1"}), None),
    "C33": ("tuning.preset", tuning(preset=None), None),
    "C34": ("resource.count", workspace(inference=None, tuning=TUNING, resource={"count": 2}), None),
    "U1": ("tuning", tuning(), serving()),
    "U2": ("resource.count", resource(count=2), serving()),
    "U3": ("resource.instanceType", resource(instanceType="b"), resource(instanceType="a")),
    "U4": ("inference", serving(inference={"preset": None, "template": {"spec": {}}}), serving()),
    "U5": ("strength", serving(inference={"adapters": [adapter("a", strength="2")]}), serving()),
    "U6": ("tuning.method", tuning(method="lora"), tuning(method="qlora")),
    "U8": (NODE_CLASS, annotated(NODE_CLASS, "No Name"), annotated(NODE_CLASS, "gpu")),
}


def fields(new: Manifest, old: Manifest | None = None) -> str:
    return " ".join(fault.field for fault in refusals(new, old, presets=KNOWN))


def test_the_page_has_every_rule_of_kaitos() -> None:
    assert list(RULES) == [*(f"C{n}" for n in range(1, 35)), *(f"U{n}" for n in range(1, 9))]


def test_every_rule_that_holds_is_tried_and_no_other() -> None:
    assert set(REFUSED) == {rule for rule, state in RULES.items() if state == "holds"}


@pytest.mark.parametrize("rule", REFUSED)
def test_a_rule_that_holds_refuses(rule: str) -> None:
    field, new, old = REFUSED[rule]
    assert old is None or fields(old) == ""
    assert field in fields(new, old)


KAITOS = {
    *("kaito.sh/" + key for key in (
        *("enablelb", "runtime", "bypass-resource-checks", "node-image-family", "node-class-name", "disable-benchmark"),
        *("performance-mode", "use-local-weights", "model-streaming", "model-mirror-storage-class", "machine-type"),
        *("streaming-service-account", "workspace", "workspacenamespace", "ragengine", "ragenginenamespace"),
        *("inference-role", "upgrade-to-version", "upgrade-start-time"),
    )),
    *("inference.kaito.sh/" + key for key in (
        *("stream-source-type", "stream-datarefs-url", "stream-identity-client-id", "static-model-mirror"),
    )),
    *("workspace.kaito.io/hash", "workspace.kaito.io/revision", "workspace.kaito.io/name"),
    *("inferenceset.kaito.sh/created-by", "multiroleinference.kaito.sh/created-by"),
    *("karpenter.kaito.sh/" + key for key in (
        *("workspace-name", "workspace-namespace", "inferenceset", "inferenceset-namespace", "managed-by", "default"),
    )),
}  # fmt: skip
"""Every annotation and label that KAITO v0.12 reads or writes."""


def keys_that_are(state: str) -> list[str]:
    return [key for key, states in KEYS.items() if state in states.split(", ")]


def marked(key: str, value: str) -> Manifest:
    where = "labels" if key in LABELS else "annotations"
    return merged(serving(), {"metadata": {where: {key: value}}})


def test_the_page_has_every_key_of_kaitos() -> None:
    assert {key for key, state in KEYS.items() if state != "ours"} == KAITOS


@pytest.mark.parametrize("key", keys_that_are("refused"))
def test_a_key_that_is_refused_is_named(key: str) -> None:
    assert fields(marked(key, "true")) == f"metadata.{'labels' if key in LABELS else 'annotations'}[{key}]"


ACCEPTED = {
    "kaito.sh/runtime": ("transformers", "other"),
    "kaito.sh/disable-benchmark": ("true", "perhaps"),
    "kaito.sh/use-local-weights": ("false", "true"),
    "kaito.sh/model-streaming": ("disabled", "enabled"),
}


@pytest.mark.parametrize("key", [key for key in keys_that_are("mapped") if key not in LABELS])
def test_an_annotation_that_is_mapped_takes_its_values_and_no_other(key: str) -> None:
    good, bad = ACCEPTED[key]
    assert fields(annotated(key, good)) == ""
    assert fields(annotated(key, bad)) == f"metadata.annotations[{key}]"


@pytest.mark.parametrize("key", [key for key in keys_that_are("mapped") if key in LABELS])
def test_a_label_that_is_mapped_is_accepted_with_a_word(key: str) -> None:
    assert fields(marked(key, "x")) == ""
    (warning,) = warnings(marked(key, "x"))
    assert warning.startswith(f"metadata.labels[{key}]: ")


@pytest.mark.parametrize("key", keys_that_are("left"))
def test_a_mark_of_kaitos_changes_nothing(key: str) -> None:
    assert (fields(marked(key, "1")), warnings(marked(key, "1"))) == ("", [])
    assert rayservice(inputs(marked(key, "1"))) == rayservice(inputs(serving()))


@pytest.mark.parametrize("key", [*keys_that_are("reserved"), *keys_that_are("written")])
def test_a_label_that_only_operators_set_is_stripped_from_a_selector(key: str) -> None:
    made = nodepool(inputs(resource(labelSelector={"matchLabels": {key: "mine"}})))
    assert made["spec"]["template"]["metadata"]["labels"].get(key) != "mine"


def test_labels_that_are_written_are_on_pods_and_machines() -> None:
    wanted = {"kaito.sh/workspace": "smol", "kaito.sh/workspacenamespace": "default"}
    assert list(wanted) == keys_that_are("written")
    pod = rayservice(inputs(serving()))["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    for made in (pod, nodepool(inputs(serving()))["spec"]["template"]):
        assert wanted.items() <= made["metadata"]["labels"].items()


def test_labels_that_are_read_tell_kaitos_machines_of_a_workspace() -> None:
    pool = {"metadata": {"labels": dict(zip(keys_that_are("read"), ("smol", "team"), strict=True))}}
    assert made_by_karpenter_for(pool, "team", "smol")
    assert not made_by_karpenter_for(pool, "team", "other")


def test_transformers_is_mapped_with_a_word() -> None:
    (warning,) = warnings(annotated("kaito.sh/runtime", "transformers"))
    assert "vLLM serves every model" in warning


def test_every_honoured_annotation_is_tried_below() -> None:
    assert set(keys_that_are("honoured")) == {LB, NODE_CLASS, "kaito.sh/performance-mode"}


def test_enablelb_is_honoured_and_refused_without_keys() -> None:
    assert LB in fields(annotated(LB, "True"))
    keyed = annotated(LB, "True", inference={"apiKeysSecret": "keys"})
    assert fields(keyed) == ""
    spec = service(Workspace.from_wire(keyed))["spec"]
    assert spec["type"] == "LoadBalancer"
    assert [port["port"] for port in spec["ports"]] == [80]


def test_node_class_name_is_honoured() -> None:
    made = nodepool(inputs(annotated(NODE_CLASS, "gpu-images")))
    assert made["spec"]["template"]["spec"]["nodeClassRef"]["name"] == "gpu-images"


def test_performance_mode_is_honoured() -> None:
    made = rayservice(inputs(annotated("kaito.sh/performance-mode", "throughput")))
    assert "throughput" in made["spec"]["serveConfigV2"]
