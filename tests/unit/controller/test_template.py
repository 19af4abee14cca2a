"""`inference.template`: whole stories over a cluster in memory, in which the test plays Karpenter and the Deployment."""

from __future__ import annotations

from typing import Any

import pytest

from kaito_ray.api.admission import refusals, warnings
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import ApiRefused
from kaito_ray.kube.cluster import (
    DEPLOYMENTS,
    EVENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    SERVICES,
    WORKSPACES,
    Manifest,
)
from kaito_ray.testing.builders import merged, node, node_claim, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

AZURE = Settings(provider="azure")
MACHINE = "Standard_NC24ads_A100_v4"
NOW = "2026-01-01T00:00:00Z"


def own_pod(**container: Any) -> Manifest:
    server = {
        "name": "server",
        "image": "registry.example.com/server:1",
        "ports": [{"containerPort": 8000}],
        **container,
    }
    return workspace(
        resource={"instanceType": MACHINE},
        inference={"preset": None, "template": {"spec": {"containers": [server]}}},
    )


def counts(available: int, updated: int, total: int, *conditions: Manifest, generation: int = 1) -> Manifest:
    return {
        "observedGeneration": generation,
        "availableReplicas": available,
        "updatedReplicas": updated,
        "replicas": total,
        "conditions": list(conditions),
    }


class Stage:
    """One Workspace with a pod of its own in a cluster."""

    def __init__(self, settings: Settings = AZURE) -> None:
        self.cluster = FakeCluster()
        self.settings = settings

    async def given(self, manifest: Manifest | None = None) -> Stage:
        await self.cluster.create(WORKSPACES, manifest or own_pod())
        return self

    async def reconciled(self) -> Manifest:
        await reconcile(self.cluster, FakeReplicas(), Key("default", "smol"), self.settings, now=NOW)
        return await self.get(WORKSPACES, "smol")

    async def get(self, resource: Any, name: str) -> Manifest:
        found = await self.cluster.get(resource, name, "default")
        assert found is not None, f"{resource.kind} {name} is missing"
        return found

    async def told(self, status: Manifest) -> Manifest:
        """Play the Deployment's controller; return the Workspace."""
        await self.cluster.replace_status(DEPLOYMENTS, {**await self.get(DEPLOYMENTS, "smol"), "status": status})
        return await self.reconciled()

    async def serving(self) -> Manifest:
        """Play everybody until the pod answers."""
        await self.reconciled()
        await self.cluster.create(NODES, node("node-a", gpus=1))
        await self.cluster.create(NODE_CLAIMS, node_claim("default-smol"))
        return await self.told(counts(1, 1, 1))

    async def edited(self, changes: Manifest) -> Manifest:
        await self.cluster.replace(WORKSPACES, merged(await self.get(WORKSPACES, "smol"), changes))
        return await self.reconciled()

    async def events(self) -> list[str]:
        return [event["reason"] for event in await self.cluster.list(EVENTS)]


def condition(seen: Manifest, type_: str) -> Manifest:
    return next((dict(c) for c in seen["status"]["conditions"] if c["type"] == type_), {})


async def test_it_gets_machines_a_service_and_a_deployment() -> None:
    stage = await Stage().given()
    seen = await stage.reconciled()
    made = [(w.kind, w.name) for w in stage.cluster.writes if w.verb == "create" and w.kind != "Event"]
    assert made[1:] == [("NodePool", "default-smol"), ("Service", "smol"), ("Deployment", "smol")]
    assert (seen["status"]["state"], seen["status"]["targetNodeCount"]) == ("Pending", 1)
    assert (await stage.get(SERVICES, "smol"))["spec"]["ports"][0]["targetPort"] == 8000


async def test_it_is_ready_when_machines_and_pods_are() -> None:
    stage = await Stage().given()
    seen = await stage.serving()
    assert (seen["status"]["state"], seen["status"]["endpoint"]) == ("Ready", "http://smol.default.svc")
    assert condition(seen, "WorkspaceSucceeded")["reason"] == "workspaceSucceeded"
    assert {"ServingStarted", "NodesReady", "ModelReady"} <= set(await stage.events())
    first = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[first:] == []


async def test_a_pod_that_fails_says_why() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}
    said = {"name": "server", "image": "registry.example.com/server:1", "ready": False, "state": waiting}
    labels = {"kaito.sh/workspace": "smol", "kaito.sh/workspacenamespace": "default"}
    pod = {
        "metadata": {"name": "smol-1", "labels": labels},
        "status": {"phase": "Pending", "containerStatuses": [said]},
    }
    await stage.cluster.create(PODS, pod)
    seen = await stage.told(counts(0, 1, 1))
    assert condition(seen, "InferenceReady")["reason"] == "ImagePullError"
    assert "registry.example.com/server:1 cannot be pulled" in seen["status"]["reason"]


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        (
            {
                "type": "ReplicaFailure",
                "status": "True",
                "message": "exceeded quota: team, requested: pods=1, used: pods=9",
            },
            "NamespaceQuotaExceeded",
            "raise it",
        ),
        (
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
            "RolloutTimedOut",
            "no progress for 30 min",
        ),
        ({"type": "Progressing", "status": "True"}, "WorkspaceInferenceStatusPending", "1 of 1 pods are up to date, 0"),
    ],
)
async def test_a_deployment_that_does_not_get_on_says_why(said: Manifest, reason: str, words: str) -> None:
    stage = await Stage().given()
    await stage.reconciled()
    seen = await stage.told(counts(0, 1, 1, said))
    assert condition(seen, "InferenceReady")["reason"] == reason
    assert words in condition(seen, "InferenceReady")["message"]


@pytest.mark.parametrize(("settings", "word"), [(AZURE, "ZeroDowntime"), (Settings(provisioner="byo"), "OneByOne")])
async def test_an_edit_is_rolled_out_beside_what_serves(settings: Settings, word: str) -> None:
    stage = await Stage(settings).given()
    if settings.provisioner == "byo":
        labels = {"apps": "smol", "node.kubernetes.io/instance-type": MACHINE}
        await stage.cluster.create(NODES, node("own", gpus=1, metadata={"labels": labels}))
    await stage.serving()
    image = "registry.example.com/server:2"
    await stage.edited({"inference": own_pod(image=image)["inference"]})
    assert (await stage.get(DEPLOYMENTS, "smol"))["spec"]["template"]["spec"]["containers"][0]["image"] == image
    seen = await stage.reconciled()
    assert (seen["status"]["state"], condition(seen, "UpgradeInProgress")["reason"]) == ("Ready", word)
    seen = await stage.told(counts(1, 1, 1, generation=2))
    assert condition(seen, "UpgradeInProgress") == {}


async def test_what_an_api_server_writes_its_own_way_is_no_edit() -> None:
    limits = {"cpu": "1000m", "memory": "1024Mi", "nvidia.com/gpu": 1}
    stage = await Stage().given(own_pod(resources={"limits": limits}, env=[], tty=False))
    await stage.serving()
    live = await stage.get(DEPLOYMENTS, "smol")
    server = live["spec"]["template"]["spec"]["containers"][0]
    server["resources"]["limits"] = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    del server["env"], server["tty"]
    await stage.cluster.replace(DEPLOYMENTS, live)
    first = len(stage.cluster.writes)
    await stage.reconciled()
    assert [w.kind for w in stage.cluster.writes[first:] if w.kind == "Deployment"] == []
    server["resources"]["limits"]["cpu"] = "2"
    await stage.cluster.replace(DEPLOYMENTS, merged(await stage.get(DEPLOYMENTS, "smol"), {"spec": live["spec"]}))
    await stage.reconciled()
    (mended,) = (await stage.get(DEPLOYMENTS, "smol"))["spec"]["template"]["spec"]["containers"]
    assert mended["resources"]["limits"]["cpu"] == "1000m"


async def test_a_newer_operator_leaves_the_pods_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = await Stage().given()
    await stage.serving()
    monkeypatch.setattr("kaito_ray.render.template.PROGRESS_DEADLINE_S", 1)
    first = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[first:] == []


async def test_an_edit_that_the_api_server_refuses_leaves_what_serves() -> None:
    stage = await Stage().given()
    await stage.serving()
    edit = merged(await stage.get(WORKSPACES, "smol"), {"inference": own_pod(imagez="x")["inference"]})
    await stage.cluster.replace(WORKSPACES, edit)
    replace = stage.cluster.replace

    async def strict(resource: Any, manifest: Manifest) -> Manifest:
        if resource == DEPLOYMENTS:
            raise ApiRefused('strict decoding error: unknown field "spec.template.spec.containers[0].imagez"')
        return await replace(resource, manifest)

    stage.cluster.replace = strict  # type: ignore[method-assign]
    seen = await stage.reconciled()
    assert seen["status"]["state"] == "Ready"
    assert "imagez" in seen["status"]["reason"]


async def test_it_goes_pods_first() -> None:
    stage = await Stage().given()
    await stage.serving()
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    deleted = []
    while await stage.cluster.get(WORKSPACES, "smol", "default"):
        await reconcile(stage.cluster, FakeReplicas(), Key("default", "smol"), AZURE, now=NOW)
        await stage.cluster.delete(NODE_CLAIMS, "default-smol-claim")
        deleted = [w.kind for w in stage.cluster.writes if w.verb == "delete" and w.kind != "NodeClaim"]
    assert deleted == ["Workspace", "Deployment", "NodePool"]
    assert await stage.cluster.get(NODE_POOLS, "default-smol") is None


async def test_on_one_machine_it_says_that_no_container_runs_here_and_what_to_do() -> None:
    stage = await Stage(Settings(provider="local")).given()
    seen = await stage.reconciled()
    ready = condition(seen, "WorkspaceReady")
    assert ready["reason"] == "NoContainerRuntime"
    assert "apply it to a cluster, or serve a model here by inference.preset" in ready["message"]
    assert await stage.events() == ["NoContainerRuntime"]


async def test_without_a_machine_nobody_can_tell_what_it_needs() -> None:
    stage = await Stage().given(merged(own_pod(), {"resource": {"instanceType": None}}))
    assert "name a machine" in condition(await stage.reconciled(), "WorkspaceReady")["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"inference": {"template": {"spec": {"containers": []}}}}, "inference.template.spec.containers"),
        ({"inference": {"template": {"spec": "no pod"}}}, "inference.template.spec.containers"),
        ({"inference": {"config": "mine"}}, "inference.config"),
        ({"inference": {"apiKeysSecret": "keys"}}, "inference.apiKeysSecret"),
        ({"inference": {"limits": {"maxQueued": 1}}}, "inference.limits"),
        (
            {"metadata": {"annotations": {"ray.kaito.sh/worker-image": "w:2"}}},
            "metadata.annotations[ray.kaito.sh/worker-image]",
        ),
    ],
)
def test_what_is_for_models_is_refused(change: Manifest, field: str) -> None:
    assert [fault.field for fault in refusals(merged(own_pod(), change))] == [field]


def test_its_load_balancer_is_its_own_business_and_said_so() -> None:
    open_ = merged(own_pod(), {"metadata": {"annotations": {"kaito.sh/enablelb": "True"}}})
    assert refusals(open_) == []
    assert "let it ask for keys itself" in warnings(open_)[0]
