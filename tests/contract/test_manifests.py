"""What the operator writes is what KubeRay, Karpenter and Kubernetes take, and does not change by accident.

The golden files are read by people: `KAITO_RAY_UPDATE_GOLDEN=1 pytest tests/contract/test_manifests.py` rewrites them,
and the difference is part of the review. A change of a RayService's pods starts a second cluster in every installation.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

import kaito_ray.local.crds
from kaito_ray.api.app_args import AppArgs, UserConfig
from kaito_ray.controller.settings import GPU_PROVISIONER_CLASS, NODE_CLASSES
from kaito_ray.render.disruption import disruption_budget
from kaito_ray.render.inference_config import parse
from kaito_ray.render.inputs import Redis, ServingInputs
from kaito_ray.render.networkpolicy import network_policy
from kaito_ray.render.nodeclaim import nodeclaim
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.scaling import most_pods
from kaito_ray.render.secrets import keys, registry
from kaito_ray.render.service import service
from kaito_ray.render.template import deployment, template_service
from kaito_ray.testing.builders import adapter, merged, workspace
from kaito_ray.testing.plans import gpu_plan, inputs, template_inputs

GOLDEN = Path(__file__).parent / "golden"
CRDS = Path(kaito_ray.local.crds.__file__).parent

CONFIG = {
    "metadata": {"name": "mine"},
    "data": {"inference_config.yaml": "vllm:\n  max-num-seqs: 64\n  tool-call-parser: llama3_json\n"},
}
GPU_WORKSPACE = workspace(
    metadata={
        "name": "big",
        "namespace": "team",
        "uid": "uid-2",
        "annotations": {"kaito.sh/performance-mode": "throughput"},
    },
    resource={"capacityTypes": ["spot", "on-demand"], "zones": ["eu-1"], "labelSelector": {"matchLabels": {"a": "b"}}},
    inference={"preset": {"name": "phi-4", "revision": "abc", "presetOptions": {"modelAccessSecret": "hub"}}},
)
CASES = {
    "laptop": inputs(),
    "adapters": inputs(
        workspace(
            metadata={"uid": "uid-3"},
            inference={
                "adapters": [
                    adapter("from-image", strength="0.5", source={"imagePullSecrets": ["pull"]}),
                    {"source": {"name": "from-volume", "volumeSource": {"persistentVolumeClaim": {"claimName": "c"}}}},
                ]
            },
        ),
        pull_secrets={"pull.json": "e30="},
    ),
    "two-gpus": inputs(GPU_WORKSPACE, gpu_plan(), config=parse(CONFIG)),
    "two-machines": inputs(GPU_WORKSPACE, gpu_plan(nodes=2, pipeline_parallel=2), regional=True),
    "scaled": inputs(
        merged(GPU_WORKSPACE, {"inference": {"autoscaling": {"minReplicas": 0, "maxReplicas": 3}}}),
        gpu_plan(),
        redis=Redis("redis.ray.svc:6379", secret="redis"),
    ),
    "scaled-laptop": inputs(workspace(metadata={"uid": "uid-4"}, inference={"autoscaling": {"maxReplicas": 2}})),
}
each_case = pytest.mark.parametrize("case", CASES)


def manifests(made: ServingInputs) -> list[dict[str, Any]]:
    wanted = made.workspace
    return [
        nodepool(made),
        keys(wanted, made.api_keys),
        registry(wanted, made.pull_secrets),
        service(wanted),
        network_policy(wanted),
        disruption_budget(wanted, most_pods(made), at_once=made.plan.nodes),
        rayservice(made),
    ]


def schema(file: str) -> dict[str, Any]:
    crd = json.loads((CRDS / file).read_text())
    version = next(v for v in crd["spec"]["versions"] if v["storage"])
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def unknown(schema_: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every field that the schema does not have: the API server would drop it in silence."""
    if schema_.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict) and path != ".metadata":
        known = schema_.get("properties", {})
        for key, child in value.items():
            if key in known:
                yield from unknown(known[key], child, f"{path}.{key}")
            elif "additionalProperties" not in schema_:
                yield f"{path}.{key}"
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from unknown(schema_.get("items", {}), child, f"{path}[{index}]")


@each_case
def test_manifests_are_the_golden_ones(case: str) -> None:
    text = yaml.safe_dump_all(manifests(CASES[case]), sort_keys=False, width=120)
    file = GOLDEN / f"{case}.yaml"
    if os.environ.get("KAITO_RAY_UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


@each_case
@pytest.mark.parametrize(
    ("render", "file"),
    [(rayservice, "ray.io_rayservices.json"), (nodepool, "karpenter.sh_nodepools.json")],
)
def test_custom_resources_satisfy_their_crd(case: str, render: Any, file: str) -> None:
    manifest = render(CASES[case])
    jsonschema_rs.validator_for(schema(file)).validate(manifest)
    assert list(unknown(schema(file), manifest)) == []


@each_case
def test_built_in_kinds_satisfy_kubernetes(case: str) -> None:
    for manifest in manifests(CASES[case]):
        if manifest["kind"] in ("NodePool", "RayService"):
            continue
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


CLASSES = {
    "gpu-provisioner": GPU_PROVISIONER_CLASS,
    "aws": NODE_CLASSES["aws"],
}


@pytest.mark.parametrize("provider", CLASSES)
def test_claims_are_the_golden_ones_and_satisfy_their_crd(provider: str) -> None:
    given = (
        GPU_WORKSPACE
        if provider == "aws"
        else merged(GPU_WORKSPACE, {"resource": {"capacityTypes": None, "zones": None}})
    )
    made = inputs(
        given, gpu_plan(), node_class=CLASSES[provider], provisioner="nodeclaim", instance_types=("first", "second")
    )
    found = [nodeclaim(made, 0, 0), nodeclaim(made, 1, 1)]
    for manifest in found:
        jsonschema_rs.validator_for(schema("karpenter.sh_nodeclaims.json")).validate(manifest)
        assert list(unknown(schema("karpenter.sh_nodeclaims.json"), manifest)) == []
    text = yaml.safe_dump_all(found, sort_keys=False, width=120)
    file = GOLDEN / f"claims-{provider}.yaml"
    if os.environ.get("KAITO_RAY_UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


OWN_POD = workspace(
    metadata={"name": "own", "namespace": "team", "uid": "uid-4", "annotations": {"ray.kaito.sh/retry": "1"}},
    resource={"count": 2, "labelSelector": {"matchLabels": {"apps": None, "a": "b"}}},
    inference={
        "preset": None,
        "template": {
            "metadata": {"labels": {"team": "blue"}},
            "spec": {
                "nodeSelector": {"disk": "fast"},
                "containers": [
                    {"name": "server", "image": "registry.example.com/server:1", "ports": [{"containerPort": 8000}]}
                ],
            },
        },
    },
)


def test_a_pod_of_ones_own_becomes_a_deployment_and_a_service() -> None:
    made = template_inputs(OWN_POD)
    found = [nodepool(made), template_service(made), deployment(made)]
    for manifest in found[1:]:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    text = yaml.safe_dump_all(found, sort_keys=False, width=120)
    file = GOLDEN / "own-pod.yaml"
    if os.environ.get("KAITO_RAY_UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


@each_case
def test_equal_inputs_give_equal_bytes(case: str) -> None:
    assert json.dumps(manifests(CASES[case])) == json.dumps(manifests(CASES[case]))


@each_case
def test_code_inside_ray_can_read_what_it_is_given(case: str) -> None:
    (application,) = yaml.safe_load(rayservice(CASES[case])["spec"]["serveConfigV2"])["applications"]
    assert AppArgs.from_wire(application["args"]).workspace == CASES[case].workspace.metadata.name
    told = UserConfig.from_wire(application["deployments"][0]["user_config"])
    declared = CASES[case].inference.adapters
    assert [a.name for a in told.adapters] == [a.source.name for a in declared if a.source]
