"""Admission: every rule once, each with the field it names."""

from typing import Any

import pytest

from kaito_ray.api.admission import refusals, warnings
from kaito_ray.testing.builders import TUNING, adapter, merged, workspace

PRESETS = ("smollm2-135m-instruct", "phi-4", "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct")


def fields(new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    return [fault.field for fault in refusals(new, old, presets=PRESETS)]


def tuning(**changes: Any) -> dict[str, Any]:
    return workspace(inference=None, tuning=merged(TUNING, changes))


def annotated(key: str, value: str) -> dict[str, Any]:
    return workspace(metadata={"annotations": {key: value}})


def adapters(*entries: dict[str, Any]) -> dict[str, Any]:
    return workspace(inference={"adapters": list(entries)})


VALID = [
    pytest.param(workspace(), id="the smallest serving Workspace"),
    pytest.param(tuning(), id="a tuning Workspace"),
    pytest.param(workspace(apiVersion="kaito.sh/v1alpha1"), id="the older version"),
    pytest.param(tuning(method="QLoRA"), id="the method in any case"),
    pytest.param(tuning(output={"image": None, "imagePushSecret": None, "volume": {"emptyDir": {}}}), id="volume"),
    pytest.param(adapters(adapter("a", strength="0.5"), adapter("b")), id="adapters with and without strength"),
    pytest.param(
        adapters({"source": {"name": "a", "workspace": "tuned"}}), id="an adapter from another Workspace's output"
    ),
    pytest.param(annotated("kaito.sh/enablelb", "False"), id="no load balancer"),
    pytest.param(annotated("kaito.sh/performance-mode", "throughput"), id="performance mode"),
    pytest.param(annotated("example.com/mine", "anything"), id="a stranger's annotation"),
    pytest.param(workspace(inference={"preset": {"name": "Phi-4"}}), id="a preset's name in any case"),
]

INVALID = [
    pytest.param(workspace(metadata={"name": "Not_A_Label"}), ["metadata.name"], id="name"),
    pytest.param(workspace(inference=None), ["inference"], id="neither inference nor tuning"),
    pytest.param(workspace(tuning=TUNING), ["inference"], id="both inference and tuning"),
    pytest.param(workspace(resource=None), ["resource"], id="no resource"),
    pytest.param(workspace(spec={}), ["spec"], id="an unknown field"),
    pytest.param(workspace(inference={"preset": None}), ["inference"], id="neither preset nor template"),
    pytest.param(workspace(inference={"template": {}}), ["inference"], id="both preset and template"),
    pytest.param(workspace(inference={"preset": {"name": "phi4"}}), ["inference.preset.name"], id="unknown preset"),
    pytest.param(
        workspace(inference={"preset": {"presetOptions": {"image": "No Image"}}}),
        ["inference.preset.presetOptions.image"],
        id="weights in what is no image",
    ),
    pytest.param(
        workspace(inference={"preset": {"presetOptions": {"image": "a/b:1"}, "revision": "main"}}),
        ["inference.preset.presetOptions.image"],
        id="weights in an image at a revision of the hub",
    ),
    pytest.param(
        workspace(inference={"preset": {"presetOptions": {"image": "a/b:1"}, "trustRemoteCode": True}}),
        ["inference.preset.presetOptions.image"],
        id="code in an image",
    ),
    pytest.param(
        workspace(inference={"preset": {"presetOptions": {"imagePullSecrets": ["pull"]}}}),
        ["inference.preset.presetOptions.imagePullSecrets"],
        id="a Secret to pull nothing with",
    ),
    pytest.param(
        workspace(inference=None, tuning={**TUNING, "preset": {"name": "phi-4", "presetOptions": {"image": "a/b:1"}}}),
        ["tuning.preset.presetOptions.image"],
        id="an image to tune",
    ),
    pytest.param(workspace(inference={"config": "No Such"}), ["inference.config"], id="config"),
    pytest.param(
        workspace(inference={"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
        ["inference.autoscaling.minReplicas"],
        id="autoscaling bounds",
    ),
    pytest.param(adapters({}), ["inference.adapters[0].source"], id="adapter without source"),
    pytest.param(
        adapters(merged(adapter(), {"source": {"name": None}})), ["inference.adapters[0].source.name"], id="no name"
    ),
    pytest.param(
        adapters(adapter("Bad_Name")),
        ["inference.adapters[0].source.image", "inference.adapters[0].source.name"],
        id="bad name",
    ),
    pytest.param(adapters(adapter("a"), adapter("a")), ["inference.adapters[1].source.name"], id="duplicate"),
    pytest.param(adapters(adapter("smollm2-135m-instruct")), ["inference.adapters[0].source.name"], id="model's name"),
    pytest.param(adapters(adapter("a", strength="1.5")), ["inference.adapters[0].strength"], id="strength too large"),
    pytest.param(adapters(adapter("a", strength="nan")), ["inference.adapters[0].strength"], id="strength no number"),
    pytest.param(
        adapters(merged(adapter("a"), {"source": {"volumeSource": {"emptyDir": {}}}})),
        ["inference.adapters[0].source"],
        id="adapter from image and volume",
    ),
    pytest.param(
        adapters({"source": {"name": "a", "urls": ["https://example.com/a"]}}),
        ["inference.adapters[0].source.urls"],
        id="adapter from a URL",
    ),
    pytest.param(
        adapters({"source": {"name": "a", "workspace": "smol"}}),
        ["inference.adapters[0].source.workspace"],
        id="its own output",
    ),
    pytest.param(
        workspace(resource={"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
        ["resource.labelSelector.matchExpressions[0]"],
        id="an expression that is no label",
    ),
    pytest.param(
        workspace(resource={"labelSelector": {"matchLabels": {"apps": None, "kaito.sh/workspace": "x"}}}),
        ["resource.labelSelector.matchLabels"],
        id="only reserved labels",
    ),
    pytest.param(workspace(resource={"preferredNodes": ["n"]}), ["resource.preferredNodes"], id="preferred nodes"),
    pytest.param(
        workspace(resource={"partition": {"mode": "mig"}}), ["resource.partition.profile"], id="mig without profile"
    ),
    pytest.param(tuning(preset=None), ["tuning.preset"], id="tuning without preset"),
    pytest.param(tuning(method="full"), ["tuning.method"], id="unknown method"),
    pytest.param(tuning(input=None), ["tuning.input"], id="tuning without input"),
    pytest.param(tuning(input={"image": "a/b:1"}), ["tuning.input"], id="two inputs"),
    pytest.param(tuning(output=None), ["tuning.output"], id="tuning without output"),
    pytest.param(tuning(output={"imagePushSecret": None}), ["tuning.output.imagePushSecret"], id="no push secret"),
    pytest.param(tuning(output={"image": "Bad Image"}), ["tuning.output.image"], id="bad image"),
    pytest.param(annotated("kaito.sh/enablelb", "True"), ["metadata.annotations[kaito.sh/enablelb]"], id="open lb"),
    pytest.param(annotated("kaito.sh/runtime", "tgi"), ["metadata.annotations[kaito.sh/runtime]"], id="runtime"),
    pytest.param(
        annotated("kaito.sh/bypass-resource-checks", ""),
        ["metadata.annotations[kaito.sh/bypass-resource-checks]"],
        id="bypass",
    ),
]


@pytest.mark.parametrize("manifest", VALID)
def test_admits(manifest: dict[str, Any]) -> None:
    assert fields(manifest) == []


@pytest.mark.parametrize(("manifest", "expected"), INVALID)
def test_refuses_and_names_the_field(manifest: dict[str, Any], expected: list[str]) -> None:
    assert fields(manifest) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.com/a", "http://localhost/a", "http://x.localhost/a", "http://127.0.0.1/a", "http://[::1]/a"),
        *("http://169.254.169.254/latest", "http://10.0.0.1/a", "http://metadata.google.internal/a", "http:///a"),
    ],
)
def test_a_dataset_url_may_not_reach_inside(url: str) -> None:
    assert fields(tuning(input={"urls": [url]})) == ["tuning.input.urls[0]"]


@pytest.mark.parametrize(
    ("allow", "refused"),
    [
        pytest.param(["10.1.0.0/16"], [], id="its network is trusted"),
        pytest.param(["10.1.2.3"], [], id="the host itself is trusted"),
        pytest.param(["10.2.0.0/16", "data.lan"], ["tuning.input.urls[0]"], id="others are trusted"),
    ],
)
def test_a_private_host_that_the_operator_trusts_is_admitted(allow: list[str], refused: list[str]) -> None:
    manifest = tuning(input={"urls": ["http://10.1.2.3/data.parquet"]})
    assert [fault.field for fault in refusals(manifest, presets=PRESETS, data_allow=allow)] == refused


def test_all_faults_are_told_at_once() -> None:
    bad = workspace(metadata={"name": "A"}, resource={"preferredNodes": ["n"]}, inference={"preset": {"name": "x"}})
    assert fields(bad) == ["metadata.name", "resource.preferredNodes", "inference.preset.name"]


def test_an_unknown_preset_comes_with_near_names() -> None:
    (fault,) = refusals(workspace(inference={"preset": {"name": "phi-3-mini-4k"}}), presets=PRESETS)
    assert "phi-3-mini-4k-instruct" in str(fault)


def test_placeholders_are_named_and_hide_other_faults_of_their_field() -> None:
    bad = tuning(output={"image": "ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:1", "imagePushSecret": "MY_SECRET_HERE"})
    image, secret = refusals(bad, presets=PRESETS)
    assert image.field == "tuning.output.image"
    assert "ACR_REPO_HERE and IMAGE_NAME_HERE are placeholders" in str(image)
    assert secret.field == "tuning.output.imagePushSecret"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(workspace(), tuning(), ["tuning"], id="serving cannot become tuning"),
        pytest.param(tuning(), workspace(), ["inference"], id="tuning cannot become serving"),
        pytest.param(
            workspace(), workspace(inference={"preset": {"name": "phi-4"}}), ["inference.preset"], id="the model"
        ),
        pytest.param(
            workspace(), workspace(inference={"preset": {"name": "SmolLM2-135M-Instruct"}}), [], id="its case may"
        ),
        pytest.param(
            workspace(resource={"instanceType": "a"}),
            workspace(resource={"instanceType": "b"}),
            ["resource.instanceType"],
            id="the instance type",
        ),
        pytest.param(workspace(), workspace(resource={"instanceType": "b"}), [], id="an instance type may be added"),
        pytest.param(
            workspace(),
            workspace(resource={"labelSelector": {"matchLabels": {"apps": "x"}}}),
            ["resource.labelSelector"],
            id="the selector",
        ),
        pytest.param(workspace(), adapters(adapter("late")), [], id="adapters may be added"),
        pytest.param(tuning(), tuning(method="lora"), ["tuning.method"], id="the method"),
    ],
)
def test_what_may_change(old: dict[str, Any], new: dict[str, Any], expected: list[str]) -> None:
    assert fields(new, old) == expected


def test_the_second_manifest_of_a_name_is_refused_with_the_remedy() -> None:
    (fault,) = refusals(tuning(), workspace(), presets=PRESETS)
    assert "kubectl delete workspace smol" in str(fault)


def test_an_invalid_workspace_can_still_lose_its_finalizer() -> None:
    stored = workspace(inference={"preset": {"name": "gone-from-the-catalog"}}, metadata={"finalizers": ["f"]})
    assert fields(workspace(inference={"preset": {"name": "gone-from-the-catalog"}}), stored) == []


def test_a_workspace_that_is_being_deleted_is_not_judged() -> None:
    leaving = workspace(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}, inference={"preset": {"name": "x"}})
    assert fields(leaving, workspace()) == []


def test_warnings_name_what_means_something_else_here() -> None:
    told = warnings(
        workspace(
            metadata={"annotations": {"kaito.sh/runtime": "transformers"}},
            resource={"instanceType": "Standard_NC6s_v3", "count": 2},
            inference={"preset": {"accessMode": "private"}},
        ),
        retired={"Standard_NC6s_v3": "Standard_NV36ads_A10_v5"},
    )
    assert [line.split(":")[0] for line in told] == [
        "metadata.annotations[kaito.sh/runtime]",
        "resource.instanceType",
        "inference.preset.accessMode",
        "resource.count",
    ]


def test_a_plain_workspace_has_no_warnings() -> None:
    assert warnings(workspace()) == []


def test_kubectls_own_copy_of_a_manifest_is_not_searched_for_placeholders() -> None:
    copy = {"kubectl.kubernetes.io/last-applied-configuration": '{"image": "ACR_REPO_HERE.azurecr.io/a:1"}'}
    assert fields(workspace(metadata={"annotations": copy})) == []
