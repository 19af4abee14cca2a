"""Schemas: defaults, pruning, strictness, rules; also those of KubeRay's and Karpenter's CRDs."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from kaito_ray.local import crds
from tests.conformance.conftest import GROUP, Raw, installed, widget, widget_crd

MERGE = "application/merge-patch+json"
Manifest = dict[str, Any]


@pytest.fixture
def ours(namespace: str, widgets: str) -> str:
    return f"{widgets}/namespaces/{namespace}/widgets"


def test_defaults_are_filled_in_deep_inside(raw: Raw, ours: str) -> None:
    spec = raw("POST", ours, widget(parts=[{"name": "x"}, {"name": "y", "count": 2}]))["spec"]
    assert spec["mode"] == "fast"
    assert [part["count"] for part in spec["parts"]] == [1, 2]


def test_unknown_fields_are_dropped_with_a_warning_by_default(raw: Raw, ours: str) -> None:
    status, made, headers = raw.full("POST", ours, widget(colour="red"))
    assert status == 201
    assert "colour" not in made["spec"]
    assert headers["Warning"] == '299 - "unknown field \\"spec.colour\\""'


def test_unknown_fields_are_refused_when_asked_and_ignored_when_asked(raw: Raw, ours: str) -> None:
    answer = raw.refused("POST", ours, widget(colour="red"), fieldValidation="Strict")
    assert answer["reason"] == "BadRequest"
    assert answer["message"].endswith('strict decoding error: unknown field "spec.colour"')
    status, _, headers = raw.full("POST", ours, widget(colour="red"), fieldValidation="Ignore")
    assert status == 201
    assert "Warning" not in headers


def test_unknown_fields_stay_where_the_schema_says_so(raw: Raw, ours: str) -> None:
    made = raw("POST", ours, widget(free={"any": {"thing": [1, {"deep": True}]}}))
    assert made["spec"]["free"] == {"any": {"thing": [1, {"deep": True}]}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"size": "x"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"', id="type"),
        pytest.param({"size": 11}, "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10", id="maximum"),
        pytest.param({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1", id="minimum"),
        pytest.param({"color": "blue"}, 'spec.color: Unsupported value: "blue": supported values: "red", "green"', id="enum"),
        pytest.param({"code": "A"}, "spec.code: Invalid value: \"A\": spec.code in body should match '^[a-z]+$'", id="pattern"),
        pytest.param({"code": "abcdef"}, "spec.code: Too long: may not be more than 5 bytes", id="length"),
        pytest.param({"port": True}, "spec.port in body must be of type integer,string", id="int-or-string"),
        pytest.param({"names": ["x", "x"]}, 'spec.names[1]: Duplicate value: "x"', id="set"),
        pytest.param({"parts": [{"name": "x"}, {"name": "x"}]}, "spec.parts[1]: Duplicate value", id="map"),
        pytest.param({"parts": [{}]}, "spec.parts[0].name: Required value", id="required"),
        pytest.param({"parts": [{"name": n} for n in "wxyz"]}, "spec.parts: Too many: 4: must have at most 3 items", id="items"),
        pytest.param({"tags": {"x": 1}}, "spec.tags.x in body must be of type string", id="map value"),
        pytest.param({"when": "yesterday"}, "spec.when in body must be of type date-time", id="format"),
        pytest.param({"low": 4}, "low must not exceed 3", id="rule"),
    ],
)  # fmt: skip
def test_what_breaks_the_schema_is_named(raw: Raw, ours: str, spec: Manifest, words: str) -> None:
    answer = raw.refused("POST", ours, widget(**spec))
    assert (answer["code"], answer["reason"]) == (422, "Invalid")
    assert words in answer["message"]
    assert answer["message"].startswith(f'Widget.{GROUP} "a" is invalid: ')


def test_a_missing_field_is_required(raw: Raw, ours: str) -> None:
    body = {**widget(), "spec": {}}
    answer = raw.refused("POST", ours, body)
    unchecked = (
        'Invalid value: "null": some validation rules were not checked because the object was invalid; '
        "correct the existing errors to complete validation"
    )
    assert answer["message"] == f'Widget.{GROUP} "a" is invalid: [spec.size: Required value, <nil>: {unchecked}]'
    cause = {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.size"}
    other = {"reason": "FieldValueInvalid", "message": unchecked, "field": "<nil>"}
    assert answer["details"]["causes"] == [cause, other]


def test_a_transition_rule_holds_from_the_second_write_on(raw: Raw, ours: str) -> None:
    raw("POST", ours, widget(color="red"))
    raw("PATCH", f"{ours}/a", {"spec": {"size": 4}}, type=MERGE)
    answer = raw.refused("PATCH", f"{ours}/a", {"spec": {"color": "green"}}, type=MERGE)
    assert answer["code"] == 422
    assert "color is immutable" in answer["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"rule": "self.size >"}, "compilation failed", id="a rule that does not parse"),
        pytest.param({"rule": "nosuch(self.size)"}, "undeclared reference", id="a rule that calls what is not there"),
        pytest.param({"rule": ""}, "Required value", id="no rule"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_its_crd(raw: Raw, change: Manifest, words: str) -> None:
    crd = deepcopy(widget_crd())
    crd["metadata"]["name"] = f"gadgets.{GROUP}"
    crd["spec"]["names"] = {"kind": "Gadget", "plural": "gadgets"}
    for version in crd["spec"]["versions"]:
        version["schema"] = deepcopy(version["schema"])
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] = [change]
    answer = raw.refused("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
    assert answer["code"] == 422
    assert words in answer["message"]


def test_a_crd_is_established_and_keeps_its_objects_until_it_goes(raw: Raw, namespace: str) -> None:
    crd = deepcopy(widget_crd())
    crd["metadata"]["name"] = f"gadgets.{GROUP}"
    crd["spec"]["names"] = {"kind": "Gadget", "plural": "gadgets"}
    path = f"/apis/{GROUP}/v1/namespaces/{namespace}/gadgets"
    with installed(raw, crd):
        seen = raw("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.{GROUP}")
        assert {one["type"]: one["status"] for one in seen["status"]["conditions"]}["Established"] == "True"
        assert seen["status"]["storedVersions"] == ["v1"]
        assert seen["status"]["acceptedNames"]["singular"] == "gadget"
        raw("POST", path, {**widget(), "kind": "Gadget"})
    assert raw.full("GET", path)[0] == 404


@pytest.fixture(scope="module")
def vendored(raw: Raw) -> Iterator[str]:
    """KubeRay's RayService and Karpenter's NodePool and NodeClaim, under a group of our own."""
    group = f"vendored-{GROUP}"
    wanted = {"rayservices", "nodepools", "nodeclaims"}
    chosen = [crd for crd in crds.manifests() if crd["spec"]["names"]["plural"] in wanted]
    blocks = []
    for crd in chosen:
        names = {**crd["spec"]["names"], "categories": []}
        annotations = {"api-approved.kubernetes.io": "unapproved, a copy for a test"}
        crd["metadata"] = {"name": f"{names['plural']}.{group}", "annotations": annotations}
        crd["spec"] = {**crd["spec"], "group": group, "names": names}
        blocks.append(installed(raw, crd))
    for block in blocks:
        block.__enter__()
    yield f"/apis/{group}/v1"
    for block in blocks:
        block.__exit__()


def node_pool(path: str, name: str, **spec: Any) -> Manifest:
    template = {
        "spec": {
            "nodeClassRef": {"group": "karpenter.sh", "kind": "Class", "name": "default"},
            "requirements": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}],
        }
    }
    body = {"template": template, **spec}
    return {"apiVersion": path.removeprefix("/apis/"), "kind": "NodePool", "metadata": {"name": name}, "spec": body}


@pytest.fixture
def pools(raw: Raw, vendored: str) -> Iterator[str]:
    yield f"{vendored}/nodepools"
    raw("DELETE", f"{vendored}/nodepools")


def test_karpenters_defaults_are_filled_in(raw: Raw, vendored: str, pools: str) -> None:
    made = raw("POST", pools, node_pool(vendored, "p"))
    assert made["spec"]["disruption"]["budgets"] == [{"nodes": "10%"}]
    assert made["spec"]["template"]["spec"]["expireAfter"] == "720h"


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ({"key": "kubernetes.io/hostname", "operator": "Exists"}, 'label "kubernetes.io/hostname" is restricted'),
        ({"key": "karpenter.sh/other", "operator": "Exists"}, 'label domain "karpenter.sh" is restricted'),
        ({"key": "x", "operator": "In"}, "requirements with operator 'In' must have a value defined"),
        ({"key": "x", "operator": "Gt", "values": ["-1"]}, "must have a single positive integer value"),
        ({"key": "x", "operator": "In", "values": ["a"], "minValues": 2}, "must have at least that many values"),
        ({"key": "x", "operator": "Like"}, "Unsupported value"),
    ],
)  # fmt: skip
def test_karpenters_rules_judge_requirements(
    raw: Raw, vendored: str, pools: str, requirement: Manifest, words: str
) -> None:
    body = node_pool(vendored, "p")
    body["spec"]["template"]["spec"]["requirements"].append({"values": [], **requirement})
    assert words in raw.refused("POST", pools, body)["message"]


def test_karpenters_transition_rules_guard_the_mode_and_the_class(raw: Raw, vendored: str, pools: str) -> None:
    raw("POST", pools, node_pool(vendored, "p"))
    answer = raw.refused("PATCH", f"{pools}/p", {"spec": {"replicas": 1}}, type=MERGE)
    assert "Cannot transition NodePool between static" in answer["message"]
    change = {"spec": {"template": {"spec": {"nodeClassRef": {"kind": "Other"}}}}}
    assert "nodeClassRef.kind is immutable" in raw.refused("PATCH", f"{pools}/p", change, type=MERGE)["message"]


def test_a_node_claim_cannot_be_edited(raw: Raw, vendored: str) -> None:
    path = f"{vendored}/nodeclaims"
    spec = node_pool(vendored, "x")["spec"]["template"]["spec"]
    raw(
        "POST",
        path,
        {"apiVersion": vendored.removeprefix("/apis/"), "kind": "NodeClaim", "metadata": {"name": "c"}, "spec": spec},
    )
    answer = raw.refused("PATCH", f"{path}/c", {"spec": {"expireAfter": "1h"}}, type=MERGE)
    assert "spec is immutable" in answer["message"]
    raw("DELETE", f"{path}/c")


def ray_service(path: str, **spec: Any) -> Manifest:
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "head", "image": "ray"}]}}}
    body = {"serveConfigV2": "{}", "rayClusterConfig": {"headGroupSpec": head}, **spec}
    return {"apiVersion": path.removeprefix("/apis/"), "kind": "RayService", "metadata": {"name": "r"}, "spec": body}


def test_kuberays_schema_judges_the_pod_template(raw: Raw, vendored: str, namespace: str) -> None:
    path = f"{vendored}/namespaces/{namespace}/rayservices"
    body = ray_service(vendored)
    containers = body["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    containers[0]["resources"] = {"limits": {"cpu": "lots"}}
    where = "spec.rayClusterConfig.headGroupSpec.template.spec.containers[0].resources.limits.cpu"
    assert where in raw.refused("POST", path, body)["message"]
    containers[0]["resources"] = {"limits": {"cpu": 2, "memory": "4Gi"}}
    made = raw("POST", path, body)
    assert made["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"] == "head"


def test_kuberays_rules_guard_who_manages(raw: Raw, vendored: str, namespace: str) -> None:
    path = f"{vendored}/namespaces/{namespace}/rayservices"
    assert (
        "managedBy field value must be either"
        in raw.refused("POST", path, ray_service(vendored, managedBy="me"))["message"]
    )
    raw("POST", path, ray_service(vendored, managedBy="ray.io/kuberay-operator"))
    change = {"spec": {"managedBy": "kueue.x-k8s.io/multikueue"}}
    assert "the managedBy field is immutable" in raw.refused("PATCH", f"{path}/r", change, type=MERGE)["message"]
