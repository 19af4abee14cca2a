"""Every edit of every field is applied in place, rolled out or refused, as docs/edits.md says, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.api.admission import refusals
from kaito_ray.api.crd import crd
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import CONFIG_MAPS, DEPLOYMENTS, NODES, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import TUNING, adapter, merged, node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

PAGE = Path(__file__).parents[3] / "docs" / "edits.md"
IN_PLACE, ROLLED_OUT, REFUSED, NOTHING = "in place", "rolled out", "refused", "nothing to do"
CHILDREN = ("Deployment", "Service", "Secret", "NodePool", "NetworkPolicy", "PodDisruptionBudget")
"""Kinds of children that are written when an edit is applied; a RayService is looked at more closely."""
AZURE = Settings(provider="azure", worker_image="registry.example.com/worker:1")
OWN_NODES = Settings(provisioner="byo")
LOCAL = Settings(provider="local")


@dataclass(frozen=True)
class Edit:
    """A Workspace, and what is merged into it."""

    change: Manifest
    base: Manifest = field(default_factory=workspace)
    settings: Settings = AZURE


def resource(change: Manifest, **base: Any) -> Edit:
    return Edit({"resource": change}, workspace(resource=base))


def preset(change: Manifest, part: str = "inference") -> Edit:
    base = workspace() if part == "inference" else workspace(inference=None, tuning=TUNING)
    return Edit({part: {"preset": change}}, base)


def inference(change: Manifest, **base: Any) -> Edit:
    return Edit({"inference": change}, workspace(inference=base))


def adapters(before: Manifest, after: Manifest) -> Edit:
    return inference({"adapters": [after]}, adapters=[before])


def scaled(change: Manifest) -> Edit:
    return inference({"autoscaling": change}, autoscaling={"maxReplicas": 2})


def tuning(change: Manifest, **base: Any) -> Edit:
    return Edit({"tuning": change}, workspace(inference=None, tuning=merged(TUNING, base)))


def annotation(key: str, value: str, **base: Any) -> Edit:
    return Edit({"metadata": {"annotations": {key: value}}}, workspace(**base))


def own_pod(image: str) -> Manifest:
    return {"preset": None, "template": {"spec": {"containers": [{"name": "server", "image": image}]}}}


def expression(**changes: Any) -> Manifest:
    return {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"], **changes}]}


VOLUME = {"persistentVolumeClaim": {"claimName": "c"}}
PULLED = adapter(source={"imagePullSecrets": ["pull"]})
FROM_VOLUME = {"source": {"name": "style", "volumeSource": VOLUME}}
FROM_WORKSPACE = {"source": {"name": "style", "workspace": "tuned"}}
WEIGHTS = {"presetOptions": {"image": "registry.example.com/m:1"}}
EDITS: dict[str, Edit] = {
    "resource.count": resource({"count": 2}),
    "resource.instanceType": resource({"instanceType": "Standard_NC24ads_A100_v4"}),
    "resource.instanceTypes": resource({"instanceTypes": ["Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3"]}),
    "resource.capacityTypes": resource({"capacityTypes": ["spot", "on-demand"]}),
    "resource.zones": resource({"zones": ["eastus-1"]}),
    "resource.labelSelector.matchLabels": resource({"labelSelector": {"matchLabels": {"apps": "other"}}}),
    "resource.labelSelector.matchExpressions[].key": resource(
        {"labelSelector": expression(key="other")}, labelSelector=expression()
    ),
    "resource.labelSelector.matchExpressions[].operator": resource(
        {"labelSelector": expression(operator="Exists")}, labelSelector=expression()
    ),
    "resource.labelSelector.matchExpressions[].values": resource(
        {"labelSelector": expression(values=["slow"])}, labelSelector=expression()
    ),
    "resource.preferredNodes": resource({"preferredNodes": ["node-a"]}),
    "resource.partition.mode": resource({"partition": {"mode": "mig", "profile": "1g.10gb"}}),
    "resource.partition.profile": resource(
        {"partition": {"profile": "2g.20gb"}}, partition={"mode": "mig", "profile": "1g.10gb"}
    ),
    "resource.partition.count": resource({"partition": {"count": 2}}, partition={"mode": "accelerator", "count": 1}),
    "inference.preset.name": preset({"name": "all-MiniLM-L6-v2"}),
    "inference.preset.accessMode": preset({"accessMode": "private"}),
    "inference.preset.revision": preset({"revision": "abc"}),
    "inference.preset.trustRemoteCode": preset({"trustRemoteCode": True}),
    "inference.preset.presetOptions.image": preset(WEIGHTS),
    "inference.preset.presetOptions.imagePullSecrets": inference(
        {"preset": {"presetOptions": {"imagePullSecrets": ["pull"]}}}, preset=WEIGHTS
    ),
    "inference.preset.presetOptions.modelAccessSecret": preset({"presetOptions": {"modelAccessSecret": "token"}}),
    "inference.template": Edit({"inference": own_pod("server:2")}, workspace(inference=own_pod("server:1")), OWN_NODES),
    "inference.config": inference({"config": "mine"}),
    "inference.adapters[].source.name": adapters(adapter(), adapter(source={"name": "tone"})),
    "inference.adapters[].source.image": adapters(adapter(), adapter(source={"image": "registry.example.com/other:1"})),
    "inference.adapters[].source.imagePullSecrets": adapters(adapter(), PULLED),
    "inference.adapters[].source.workspace": adapters(adapter(), FROM_WORKSPACE),
    "inference.adapters[].source.volumeSource": adapters(adapter(), FROM_VOLUME),
    "inference.adapters[].source.urls": adapters(adapter(), adapter(source={"urls": ["https://example.com/a"]})),
    "inference.adapters[].strength": adapters(adapter(), adapter(strength="0.5")),
    "inference.autoscaling": inference({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}),
    "inference.autoscaling.minReplicas": scaled({"minReplicas": 0}),
    "inference.autoscaling.maxReplicas": scaled({"maxReplicas": 3}),
    "inference.autoscaling.targetOngoingRequests": scaled({"targetOngoingRequests": 9}),
    "inference.autoscaling.upscaleDelaySeconds": scaled({"upscaleDelaySeconds": 9}),
    "inference.autoscaling.downscaleDelaySeconds": scaled({"downscaleDelaySeconds": 9}),
    "inference.apiKeysSecret": inference({"apiKeysSecret": "keys"}),
    "inference.limits.requestsPerMinute": inference({"limits": {"requestsPerMinute": 9}}),
    "inference.limits.tokensPerMinute": inference({"limits": {"tokensPerMinute": 9}}),
    "inference.limits.maxQueued": inference({"limits": {"maxQueued": 9}}),
    "tuning.preset.name": preset({"name": "phi-4"}, "tuning"),
    "tuning.preset.accessMode": preset({"accessMode": "private"}, "tuning"),
    "tuning.preset.revision": preset({"revision": "abc"}, "tuning"),
    "tuning.preset.trustRemoteCode": preset({"trustRemoteCode": True}, "tuning"),
    "tuning.preset.presetOptions.image": preset(WEIGHTS, "tuning"),
    "tuning.preset.presetOptions.imagePullSecrets": preset({"presetOptions": {"imagePullSecrets": ["pull"]}}, "tuning"),
    "tuning.preset.presetOptions.modelAccessSecret": preset(
        {"presetOptions": {"modelAccessSecret": "token"}}, "tuning"
    ),
    "tuning.method": tuning({"method": "lora"}),
    "tuning.config": tuning({"config": "mine"}),
    "tuning.input.name": tuning({"input": {"name": "data"}}),
    "tuning.input.urls": tuning({"input": {"urls": ["https://example.com/other.parquet"]}}),
    "tuning.input.volumeSource": tuning({"input": {"urls": None, "volumeSource": VOLUME}}),
    "tuning.input.image": tuning({"input": {"urls": None, "image": "registry.example.com/data:1"}}),
    "tuning.input.imagePullSecrets": tuning(
        {"input": {"imagePullSecrets": ["pull"]}}, input={"urls": None, "image": "registry.example.com/data:1"}
    ),
    "tuning.input.workspace": tuning({"input": {"workspace": "other"}}),
    "tuning.output.volumeSource": tuning({"output": {"image": None, "imagePushSecret": None, "volumeSource": VOLUME}}),
    "tuning.output.image": tuning({"output": {"image": "registry.example.com/team/adapter:2"}}),
    "tuning.output.imagePushSecret": tuning({"output": {"imagePushSecret": "pull"}}),
    "tuning.workers": tuning({"workers": 2}),
    "tuning.resume": tuning({"resume": False}),
    "tuning in place of inference": Edit({"tuning": TUNING, "inference": None}),
    "inference.template in place of inference.preset": Edit({"inference": own_pod("server:1")}),
    "annotation kaito.sh/enablelb": annotation("kaito.sh/enablelb", "True", inference={"apiKeysSecret": "keys"}),
    "annotation kaito.sh/node-class-name": annotation("kaito.sh/node-class-name", "other"),
    "annotation kaito.sh/performance-mode": annotation("kaito.sh/performance-mode", "throughput"),
    "annotation ray.kaito.sh/retry": annotation("ray.kaito.sh/retry", "1"),
    "annotation ray.kaito.sh/worker-image": annotation("ray.kaito.sh/worker-image", "w:2"),
}


def rows() -> dict[str, str]:
    """Return the first two cells of each row of the page."""
    found = re.findall(r"^\| (.*?`.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    return {name.replace("`", ""): outcome for name, outcome in found}


def leaves(schema: Manifest, path: str) -> Iterator[str]:
    """Yield the path of every field that holds a value."""
    if schema.get("type") == "array" and "properties" in schema["items"]:
        yield from leaves(schema["items"], f"{path}[]")
    elif "properties" in schema:
        for name, child in schema["properties"].items():
            if name != "volume":  # another name of volumeSource
                yield from leaves(child, f"{path}.{name}")
    else:
        yield path


def fields() -> set[str]:
    stored = next(version for version in crd()["spec"]["versions"] if version["storage"])
    parts = stored["schema"]["openAPIV3Schema"]["properties"]
    return {leaf for part in ("resource", "inference", "tuning") for leaf in leaves(parts[part], part)}


async def outcome(edit: Edit) -> str:
    """Carry a Workspace out, edit it, and tell what came of it."""
    cluster = await _world()
    await cluster.create(WORKSPACES, edit.base)
    await _looked_at(cluster, edit.settings)
    before = await _pods(cluster)
    if before and before["kind"] == RAY_SERVICES.kind:
        await cluster.replace_status(RAY_SERVICES, {**before, "status": ready_ray_service_status()})
    await _looked_at(cluster, edit.settings)
    old = await cluster.get(WORKSPACES, "smol", "default")
    assert old is not None
    assert refusals(edit.base) == []
    new = merged(old, edit.change)
    assert new != old
    if refusals(new, old):
        return REFUSED
    assert before is not None
    await cluster.replace(WORKSPACES, new)
    first = len(cluster.writes)
    await _looked_at(cluster, edit.settings)
    seen, now = await cluster.get(WORKSPACES, "smol", "default"), await _pods(cluster)
    assert seen is not None and now is not None
    if any("refused" in condition["message"] for condition in seen["status"]["conditions"]):
        return REFUSED
    if _what_needs_new_pods(before) != _what_needs_new_pods(now):
        return ROLLED_OUT
    applied = [write for write in cluster.writes[first:] if write.kind in CHILDREN]
    return IN_PLACE if applied or before["spec"] != now["spec"] else NOTHING


async def _world() -> FakeCluster:
    """Return a cluster with all that edits name."""
    cluster = FakeCluster()
    await cluster.create(NODES, node(metadata={"labels": {"apps": "smol"}}))
    data = {"inference_config.yaml": "vllm:\n  max-model-len: 1024\n"}
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "mine", "namespace": "default"}, "data": data})
    secrets = {"token": "HF_TOKEN", "pull": ".dockerconfigjson", "push": ".dockerconfigjson", "keys": "alice"}
    for name, key in secrets.items():
        await cluster.create(SECRETS, {"metadata": {"name": name, "namespace": "default"}, "data": {key: "e30="}})
    tuned = await cluster.create(WORKSPACES, workspace(metadata={"name": "tuned"}, inference=None, tuning=TUNING))
    pushed = {"state": "Succeeded", "tuning": {"output": f"registry.example.com/team/adapter@sha256:{'0' * 64}"}}
    await cluster.replace_status(WORKSPACES, {**tuned, "status": pushed})
    return cluster


async def _looked_at(cluster: FakeCluster, settings: Settings) -> None:
    await reconcile(cluster, FakeReplicas(), Key("default", "smol"), settings)


async def _pods(cluster: FakeCluster) -> Manifest | None:
    """Return the object that the pods are made from."""
    return await cluster.get(RAY_SERVICES, "smol", "default") or await cluster.get(DEPLOYMENTS, "smol", "default")


def _what_needs_new_pods(made: Manifest) -> Any:
    if made["kind"] == DEPLOYMENTS.kind:
        return made["spec"]["template"]
    config = yaml.safe_load(made["spec"]["serveConfigV2"])
    replicas = [{k: v for k, v in one.items() if k != "deployments"} for one in config["applications"]]
    return made["spec"]["rayClusterConfig"], replicas


@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_does_what_the_page_says(name: str) -> None:
    assert await outcome(EDITS[name]) == rows()[name]


@pytest.mark.parametrize("name", [name for name in EDITS if name.startswith("inference.autoscaling.")])
async def test_on_a_cpu_replicas_come_and_go_in_place_too(name: str) -> None:
    assert await outcome(replace(EDITS[name], settings=LOCAL)) == IN_PLACE


def test_the_page_has_a_row_for_every_edit_that_is_tried_and_no_other() -> None:
    assert set(rows()) == set(EDITS)


def test_every_field_of_a_workspace_has_a_row() -> None:
    assert len(fields()) > 55
    assert fields() <= set(rows())
