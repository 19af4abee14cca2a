"""Whole stories over a cluster in memory, in which the test plays KubeRay and Karpenter."""

import base64
from typing import Any

import pytest
import yaml

from kaito_ray.api.status import AdapterStatus, ReplicaStart
from kaito_ray.controller.desired import APPLIED
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import ApiRefused, ApiUnavailable, Conflict
from kaito_ray.kube.cluster import (
    CONFIG_MAPS,
    EVENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    RAY_SERVICES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    WORKSPACES,
    Manifest,
    Resource,
)
from kaito_ray.testing.builders import (
    TUNING,
    adapter,
    node,
    node_claim,
    pending_ray_service_status,
    ready_ray_service_status,
    workspace,
)
from kaito_ray.testing.fake_cluster import FakeCluster, Write
from kaito_ray.testing.fake_replicas import FakeReplicas

LOCAL = Settings(provider="local", worker_image="registry.example.com/worker:1")
KEY = Key("default", "smol")
NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-02T00:00:00Z"


class Stage:
    """One Workspace in a cluster, and what happens to it."""

    def __init__(self, settings: Settings = LOCAL) -> None:
        self.cluster = FakeCluster()
        self.replicas = FakeReplicas()
        self.settings = settings
        self.again_s: float | None = None

    async def given(self, manifest: Manifest | None = None, *nodes: Manifest) -> "Stage":
        for one in nodes or (node(),):
            await self.cluster.create(NODES, one)
        await self.cluster.create(WORKSPACES, manifest or workspace())
        return self

    async def reconciled(self, *, now: str = NOW) -> Manifest:
        """Reconcile once; return the Workspace."""
        self.again_s = await reconcile(self.cluster, self.replicas, KEY, self.settings, now=now)
        return await self.get(WORKSPACES, "smol")

    async def get(self, resource: Resource, name: str) -> Manifest:
        found = await self.cluster.get(resource, name, "default")
        assert found is not None, f"{resource.kind} {name} is missing"
        return found

    async def set_status(self, resource: Resource, name: str, status: Manifest) -> None:
        await self.cluster.replace_status(resource, {**await self.get(resource, name), "status": status})

    async def provisioned(self) -> None:
        """Play Karpenter."""
        await self.cluster.create(NODE_CLAIMS, node_claim("default-smol"))

    async def serving(self) -> Manifest:
        """Play everybody until the model answers."""
        await self.reconciled()
        await self.provisioned()
        await self.set_status(RAY_SERVICES, "smol", ready_ray_service_status())
        ingress = [{"ip": "127.0.0.1", "ports": [{"port": 31000, "protocol": "TCP"}]}]
        await self.set_status(SERVICES, "smol", {"loadBalancer": {"ingress": ingress}})
        return await self.reconciled()

    async def events(self) -> list[str]:
        return sorted(event["reason"] for event in await self.cluster.list(EVENTS))


def conditions(manifest: Manifest) -> dict[str, str]:
    return {c["type"]: c["status"] for c in manifest["status"]["conditions"]}


def condition(manifest: Manifest, type_: str) -> dict[str, Any]:
    (found,) = [c for c in manifest["status"]["conditions"] if c["type"] == type_]
    return dict(found)


async def test_a_new_workspace_gets_its_children_and_a_plan() -> None:
    stage = await Stage().given()
    seen = await stage.reconciled()
    created = [(w.kind, w.name) for w in stage.cluster.writes if w.verb == "create" and w.kind != "Event"]
    assert created[2:] == [
        ("NodePool", "default-smol"),
        ("Secret", "smol-keys"),
        ("Secret", "smol-registry"),
        ("Service", "smol"),
        ("NetworkPolicy", "smol"),
        ("PodDisruptionBudget", "smol"),
        ("RayService", "smol"),
    ]
    assert seen["metadata"]["finalizers"] == ["workspace.finalizer.kaito.sh"]
    assert seen["status"]["plan"]["instanceType"] == "local"
    assert seen["status"]["state"] == "Pending"
    assert seen["status"]["targetNodeCount"] == 1
    assert await stage.events() == ["Planned", "ServingStarted"]


async def test_it_becomes_ready_when_machines_model_and_address_are_there() -> None:
    stage = await Stage().given()
    seen = await stage.serving()
    assert set(conditions(seen).values()) == {"True"}
    assert seen["status"]["state"] == "Ready"
    assert seen["status"]["endpoint"] == "http://127.0.0.1:31000"
    assert seen["status"]["workerNodes"] == ["node-a"]
    assert "reason" not in seen["status"]
    assert "ModelReady" in await stage.events()


async def test_nothing_is_written_when_nothing_changed() -> None:
    stage = await Stage().given()
    await stage.serving()
    before = len(stage.cluster.writes)
    await stage.reconciled(now=LATER)
    assert stage.cluster.writes[before:] == []


async def test_a_condition_keeps_its_date_until_its_status_flips() -> None:
    stage = await Stage().given()
    await stage.serving()
    await stage.set_status(RAY_SERVICES, "smol", ready_ray_service_status(application="UNHEALTHY"))
    seen = await stage.reconciled(now=LATER)
    assert condition(seen, "NodesReady")["lastTransitionTime"] == NOW
    assert condition(seen, "InferenceReady")["lastTransitionTime"] == LATER
    assert seen["status"]["state"] == "NotReady"
    assert seen["status"]["endpoint"] == "http://127.0.0.1:31000"


@pytest.mark.parametrize(
    ("resource", "name"),
    [(SERVICES, "smol"), (SECRETS, "smol-keys"), (NODE_POOLS, "default-smol"), (RAY_SERVICES, "smol")],
)
async def test_a_child_that_was_deleted_by_hand_is_made_again(resource: Resource, name: str) -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.cluster.delete(resource, name, "default")
    await stage.reconciled()
    await stage.get(resource, name)


async def test_a_child_that_was_edited_by_hand_is_put_right() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    service = await stage.get(SERVICES, "smol")
    service["spec"]["selector"] = {"app": "mine"}
    await stage.cluster.replace(SERVICES, service)
    await stage.reconciled()
    assert (await stage.get(SERVICES, "smol"))["spec"]["selector"]["kaito.sh/workspace"] == "smol"


async def test_the_service_follows_when_kuberay_swaps_one_ray_cluster_for_another() -> None:
    stage = await Stage().given()
    await stage.serving()
    upgrading = ready_ray_service_status() | {"pendingServiceStatus": {"rayClusterName": "smol-fghij"}}
    await stage.set_status(RAY_SERVICES, "smol", upgrading)
    await stage.reconciled()
    assert (await stage.get(SERVICES, "smol"))["spec"]["selector"]["ray.io/cluster"] == "smol-abcde"
    await stage.set_status(RAY_SERVICES, "smol", ready_ray_service_status("smol-fghij"))
    await stage.reconciled()
    assert (await stage.get(SERVICES, "smol"))["spec"]["selector"]["ray.io/cluster"] == "smol-fghij"


async def test_what_the_api_server_adds_to_a_child_is_left_alone() -> None:
    stage = await Stage().given()
    await stage.serving()
    service = await stage.get(SERVICES, "smol")
    service["spec"] |= {"clusterIP": "10.0.0.7", "sessionAffinity": "None"}
    await stage.cluster.replace(SERVICES, service)
    before = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[before:] == []


async def test_a_newer_operator_does_not_touch_what_is_served() -> None:
    stage = await Stage().given()
    await stage.serving()
    stage.settings = Settings(provider="local", worker_image="registry.example.com/worker:2")
    before = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[before:] == []


async def test_an_edit_reaches_the_ray_service_with_the_image_it_was_first_served_with() -> None:
    stage = await Stage().given()
    await stage.serving()
    stage.settings = Settings(provider="local", worker_image="registry.example.com/worker:2")
    edited = await stage.get(WORKSPACES, "smol")
    edited["metadata"]["annotations"] = {"kaito.sh/performance-mode": "throughput"}
    await stage.cluster.replace(WORKSPACES, edited)
    await stage.reconciled()
    service = await stage.get(RAY_SERVICES, "smol")
    assert "throughput" in service["spec"]["serveConfigV2"]
    assert "worker:1" in service["metadata"]["annotations"][APPLIED]
    assert "ServingChanged" in await stage.events()


async def test_a_missing_config_is_named_and_noticed_when_it_appears() -> None:
    stage = await Stage().given(workspace(inference={"config": "mine"}))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "ConfigMapNotFound"
    assert "mine" in seen["status"]["reason"]
    data = {"inference_config.yaml": "vllm:\n  max-model-len: 1024\n"}
    await stage.cluster.create(CONFIG_MAPS, {"metadata": {"name": "mine", "namespace": "default"}, "data": data})
    seen = await stage.reconciled()
    assert seen["status"]["plan"]["contextLengthTokens"] == 1024
    assert "max_model_len: 1024" in (await stage.get(RAY_SERVICES, "smol"))["spec"]["serveConfigV2"]


async def test_a_bad_edit_leaves_what_is_served_alone_and_says_so() -> None:
    stage = await Stage().given()
    await stage.serving()
    edited = await stage.get(WORKSPACES, "smol")
    edited["inference"]["config"] = "missing"
    await stage.cluster.replace(WORKSPACES, edited)
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["status"] == "True"
    assert seen["status"]["state"] == "Ready"
    assert "missing" in seen["status"]["reason"]
    await stage.get(RAY_SERVICES, "smol")


async def edited(stage: Stage, **inference: Any) -> None:
    found = await stage.get(WORKSPACES, "smol")
    await stage.cluster.replace(WORKSPACES, {**found, "inference": {**found["inference"], **inference}})


async def test_an_adapter_that_is_added_while_serving_changes_the_user_config_alone() -> None:
    stage = await Stage().given()
    await stage.serving()
    before = await stage.get(RAY_SERVICES, "smol")
    await edited(stage, adapters=[adapter("style", strength="0.5")])
    seen = await stage.reconciled()
    after = await stage.get(RAY_SERVICES, "smol")
    assert after["spec"]["rayClusterConfig"] == before["spec"]["rayClusterConfig"]
    (old,), (new,) = (yaml.safe_load(one["spec"]["serveConfigV2"])["applications"] for one in (before, after))
    assert new["args"] == old["args"]
    assert [a["name"] for a in new["deployments"][0]["user_config"]["adapters"]] == ["style"]
    assert seen["status"]["adapters"] == [{"name": "style", "state": "Waiting", "message": ""}]
    assert stage.again_s == 5.0


async def test_what_the_replica_says_of_its_adapters_is_the_status() -> None:
    stage = await Stage().given(workspace(inference={"adapters": [adapter("good"), adapter("bad")]}))
    await stage.serving()
    good = AdapterStatus(name="good", state="Ready", digest="sha256:1")
    bad = AdapterStatus(name="bad", state="Failed", message="no such image")
    stage.replicas.told["http://127.0.0.1:31000"] = (bad, good)
    seen = await stage.reconciled()
    assert [a["state"] for a in seen["status"]["adapters"]] == ["Ready", "Failed"]
    assert condition(seen, "InferenceReady")["status"] == "True"
    assert {"AdapterReady", "AdapterFailed"} <= set(await stage.events())
    before = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[before:] == []


async def test_a_replica_that_does_not_answer_leaves_what_it_said_last() -> None:
    stage = await Stage().given(workspace(inference={"adapters": [adapter("good")]}))
    await stage.serving()
    ready = AdapterStatus(name="good", state="Ready", digest="sha256:1")
    stage.replicas.told["http://127.0.0.1:31000"] = (ready,)
    await stage.reconciled()
    stage.replicas.told.clear()
    assert (await stage.reconciled())["status"]["adapters"][0]["state"] == "Ready"


async def test_pull_secrets_are_copied_to_the_secret_that_is_mounted_and_follow() -> None:
    private = adapter("style", source={"imagePullSecrets": ["pull"]})
    stage = await Stage().given(workspace(inference={"adapters": [private]}))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "SecretNotFound"
    meta = {"name": "pull", "namespace": "default"}
    await stage.cluster.create(SECRETS, {"metadata": meta, "data": {".dockerconfigjson": "b25l"}})
    await stage.reconciled()
    assert (await stage.get(SECRETS, "smol-registry"))["data"] == {"pull.json": "b25l"}
    service = (await stage.get(RAY_SERVICES, "smol"))["metadata"]["resourceVersion"]
    pull = await stage.get(SECRETS, "pull")
    await stage.cluster.replace(SECRETS, {**pull, "data": {".dockerconfigjson": "dHdv"}})
    await stage.reconciled()
    assert (await stage.get(SECRETS, "smol-registry"))["data"] == {"pull.json": "dHdv"}
    assert (await stage.get(RAY_SERVICES, "smol"))["metadata"]["resourceVersion"] == service


async def test_the_pods_service_account_pulls_after_the_secrets_that_the_workspace_names() -> None:
    stage = await Stage().given(workspace(inference={"adapters": [adapter("style")]}))
    pulls = {"imagePullSecrets": [{"name": "theirs"}, {"name": "of-another-type"}, {"name": "not-there"}]}
    await stage.cluster.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "default"}, **pulls})
    for name, key in (("theirs", ".dockerconfigjson"), ("of-another-type", "token")):
        meta = {"name": name, "namespace": "default"}
        await stage.cluster.create(SECRETS, {"metadata": meta, "data": {key: "b25l"}})
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] != "SecretNotFound"
    assert (await stage.get(SECRETS, "smol-registry"))["data"] == {"theirs.serviceaccount.json": "b25l"}


async def test_an_adapter_from_a_volume_is_mounted_and_named_by_its_path() -> None:
    claim = {"persistentVolumeClaim": {"claimName": "adapters"}}
    stage = await Stage().given(workspace(inference={"adapters": [{"source": {"name": "style", "volume": claim}}]}))
    await stage.reconciled()
    spec = (await stage.get(RAY_SERVICES, "smol"))["spec"]
    pod = spec["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "adapter-0", **claim} in pod["volumes"]
    assert "path: /mnt/adapters/style" in spec["serveConfigV2"]


async def test_an_adapter_of_a_tuning_workspace_is_waited_for_served_by_digest_and_followed() -> None:
    tuned = {"source": {"name": "style", "workspace": "run"}, "strength": "0.5"}
    stage = await Stage().given(workspace(inference={"adapters": [tuned]}))
    seen = await stage.serving()
    assert condition(seen, "WorkspaceReady")["status"] == "True", "the base model does not wait"
    assert "create it" in seen["status"]["adapters"][0]["message"]
    assert await told(stage) == []

    run = workspace(metadata={"name": "run"}, inference=None, tuning=TUNING)
    await stage.cluster.create(WORKSPACES, run)
    seen = await stage.reconciled()
    assert "has not pushed" in seen["status"]["adapters"][0]["message"]

    secret = {"metadata": {"name": "push", "namespace": "default"}, "data": {".dockerconfigjson": "b25l"}}
    await stage.cluster.create(SECRETS, secret)
    for digest in ("sha256:1", "sha256:2"):
        image = f"registry.example.com/team/adapter@{digest}"
        await stage.set_status(WORKSPACES, "run", {"state": "Succeeded", "tuning": {"output": image}})
        seen = await stage.reconciled()
        assert [(a["name"], a["image"], a["strength"]) for a in await told(stage)] == [("style", image, 0.5)]
    assert seen["status"]["adapters"] == [{"name": "style", "state": "Waiting", "message": ""}]
    assert (await stage.get(SECRETS, "smol-registry"))["data"] == {"push.json": "b25l"}, "it is pulled as it was pushed"

    # The run's Workspace is deleted: what it pushed last is served on, and that is said.
    await stage.cluster.delete(WORKSPACES, "run", "default")
    stage.replicas.told[seen["status"]["endpoint"]] = (AdapterStatus(name="style", state="Ready", digest="sha256:2"),)
    (status,) = (await stage.reconciled())["status"]["adapters"]
    assert [a["image"] for a in await told(stage)] == [image]
    assert (await stage.get(SECRETS, "smol-registry"))["data"] == {"push.json": "b25l"}
    assert (status["state"], status["message"]) == ("Ready", "Workspace run is gone; what it pushed last is served on")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        pytest.param(workspace(metadata={"name": "run"}), "does not tune", id="a Workspace that serves"),
        pytest.param(
            workspace(
                metadata={"name": "run"},
                inference=None,
                tuning=TUNING | {"output": {"volumeSource": {"emptyDir": {}}}},
            ),
            "on a volume",
            id="a run whose adapter is on a volume",
        ),
    ],
)
async def test_an_adapter_that_can_never_come_says_what_to_do(run: Manifest, words: str) -> None:
    tuned = {"source": {"name": "style", "workspace": "run"}}
    stage = await Stage().given(workspace(inference={"adapters": [tuned]}))
    await stage.cluster.create(WORKSPACES, run)
    (status,) = (await stage.serving())["status"]["adapters"]
    assert words in status["message"]
    assert "instead" in status["message"]


WITH_KEYS = {"apiKeysSecret": "team-keys"}


def api_keys(**keys: str) -> Manifest:
    data = {name: base64.b64encode(key.encode()).decode() for name, key in keys.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "team-keys", "namespace": "default"},
        "type": "Opaque",
        "data": data,
    }


async def mounted_keys(stage: Stage) -> Manifest:
    return dict((await stage.get(SECRETS, "smol-keys")).get("data") or {})


async def test_keys_are_copied_into_the_mounted_secret_and_appear_nowhere_else() -> None:
    stage = await Stage().given(workspace(inference=WITH_KEYS))
    await stage.cluster.create(SECRETS, api_keys(alice="sk-alice"))
    seen = await stage.serving()
    assert await mounted_keys(stage) == api_keys(alice="sk-alice")["data"]
    service = await stage.get(RAY_SERVICES, "smol")
    assert "keysRequired: true" in service["spec"]["serveConfigV2"]
    for public in (service, seen):
        text = yaml.safe_dump(public)
        assert "sk-alice" not in text
        assert api_keys(alice="sk-alice")["data"]["alice"] not in text


async def test_keys_rotate_and_the_last_one_is_revoked_without_touching_the_ray_service() -> None:
    stage = await Stage().given(workspace(inference=WITH_KEYS))
    await stage.cluster.create(SECRETS, api_keys(alice="one", bob="two"))
    await stage.serving()
    before = await stage.get(RAY_SERVICES, "smol")
    for keys in (api_keys(alice="three"), api_keys()):
        live = await stage.get(SECRETS, "team-keys")
        await stage.cluster.replace(SECRETS, {**live, "data": keys["data"]})
        await stage.reconciled()
        assert await mounted_keys(stage) == keys["data"]
    assert await stage.get(RAY_SERVICES, "smol") == before


async def test_keys_and_limits_come_and_go_in_place() -> None:
    stage = await Stage().given(workspace())
    await stage.cluster.create(SECRETS, api_keys(alice="one"))
    await stage.serving()
    before = (await stage.get(RAY_SERVICES, "smol"))["spec"]["rayClusterConfig"]
    for inference, required in ({**WITH_KEYS, "limits": {"maxQueued": 3}}, True), ({}, False):
        live = await stage.get(WORKSPACES, "smol")
        await stage.cluster.replace(WORKSPACES, {**live, "inference": workspace(inference=inference)["inference"]})
        await stage.reconciled()
        service = await stage.get(RAY_SERVICES, "smol")
        (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
        config = application["deployments"][0]["user_config"]
        assert config["keysRequired"] is required
        assert config.get("limits") == inference.get("limits")
        assert service["spec"]["rayClusterConfig"] == before
        assert bool(await mounted_keys(stage)) is required


async def test_a_secret_of_keys_that_does_not_exist_is_named_before_anything_is_open() -> None:
    stage = await Stage().given(workspace(inference=WITH_KEYS))
    found = condition(await stage.reconciled(), "InferenceReady")
    assert found["reason"] == "SecretNotFound"
    assert "kubectl create secret generic team-keys" in found["message"]
    assert await stage.cluster.list(RAY_SERVICES) == []


async def test_the_replica_is_asked_for_its_adapters_with_a_key() -> None:
    stage = await Stage().given(workspace(inference={**WITH_KEYS, "adapters": [adapter("a")]}))
    await stage.cluster.create(SECRETS, api_keys(alice="sk-alice"))
    await stage.serving()
    await stage.reconciled()
    assert stage.replicas.keys[-1] == b"sk-alice"


async def test_the_pass_that_finds_it_ready_writes_down_how_the_replica_came_up_and_no_later_one_asks() -> None:
    stage = await Stage().given()
    start = ReplicaStart(weights="2026-01-01T00:00:20Z", engine="2026-01-01T00:00:30Z")
    stage.replicas.starts["http://127.0.0.1:31000"] = start
    phases = {phase["name"]: phase["at"] for phase in (await stage.serving())["status"]["startup"]}
    assert (phases["WeightsReady"], phases["EngineReady"]) == (start.weights, start.engine)
    assert list(phases)[-1] == "Answering"
    writes, asked = len(stage.cluster.writes), len(stage.replicas.keys)
    await stage.reconciled(now=LATER)
    assert (stage.cluster.writes[writes:], len(stage.replicas.keys)) == ([], asked)


async def told(stage: Stage) -> list[Manifest]:
    """What the replica is told of adapters."""
    (application,) = yaml.safe_load((await stage.get(RAY_SERVICES, "smol"))["spec"]["serveConfigV2"])["applications"]
    adapters: list[Manifest] = application["deployments"][0]["user_config"]["adapters"]
    return adapters


async def test_a_part_of_a_machine_that_is_made_is_refused_by_name_and_makes_nothing() -> None:
    stage = await Stage().given(workspace(resource={"partition": {"mode": "accelerator", "count": 1}}))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["message"].startswith("resource.partition: ")
    assert await stage.cluster.list(RAY_SERVICES) == []
    assert await stage.events() == ["InvalidWorkspace"]


async def test_a_refusal_is_told_once() -> None:
    stage = await Stage().given(workspace(inference={"preset": {"name": "no-such-model"}}))
    await stage.reconciled()
    before = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[before:] == []


async def test_a_model_that_is_too_big_does_not_fit() -> None:
    stage = await Stage().given(workspace(inference={"preset": {"name": "phi-4"}}), node(memory="8Gi"))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "DoesNotFit"
    assert len(seen["status"]["reason"]) <= 100


async def test_a_gpu_that_is_not_here_is_substituted_by_name() -> None:
    stage = await Stage().given(workspace(resource={"instanceType": "Standard_NC24ads_A100_v4"}))
    seen = await stage.reconciled()
    assert seen["status"]["plan"]["requestedInstanceType"] == "Standard_NC24ads_A100_v4"
    assert "InstanceTypeSubstituted" in await stage.events()


async def test_a_failed_deployment_is_told_with_serves_words() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    message = "Traceback (most recent call last):\n  File x\nOSError: no space left on device\n"
    failed = {"status": "DEPLOY_FAILED", "message": message}
    await stage.set_status(RAY_SERVICES, "smol", pending_ray_service_status(failed))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "DeployFailed"
    assert "OSError: no space left on device" in condition(seen, "InferenceReady")["message"]
    assert "DeployFailed" in await stage.events()


async def test_somebody_elses_service_of_that_name_is_not_touched() -> None:
    stage = await Stage().given()
    await stage.cluster.create(SERVICES, {"metadata": {"name": "smol", "namespace": "default"}, "spec": {}})
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "NameTaken"
    assert (await stage.get(SERVICES, "smol"))["spec"] == {}


async def test_a_workspace_with_kaitos_children_is_left_alone() -> None:
    stage = await Stage().given()
    owner = {"uid": (await stage.get(WORKSPACES, "smol"))["metadata"]["uid"]}
    await stage.cluster.create(
        SERVICES, {"metadata": {"name": "smol", "namespace": "default", "ownerReferences": [owner]}, "spec": {}}
    )
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["reason"] == "ManagedByKaito"


async def test_deletion_stops_ray_then_returns_machines_then_lets_go() -> None:
    stage = await Stage().given()
    await stage.serving()
    labels = {"kaito.sh/workspace": "smol"}
    await stage.cluster.create(PODS, {"metadata": {"name": "head", "namespace": "default", "labels": labels}})
    await stage.cluster.delete(WORKSPACES, "smol", "default")

    seen = await stage.reconciled()
    assert condition(seen, "WorkspaceDeleting")["status"] == "True"
    assert condition(seen, "InferenceReady")["status"] == "False"
    assert "endpoint" not in seen["status"]
    assert await stage.cluster.list(RAY_SERVICES) == []
    seen = await stage.reconciled()
    assert seen["status"]["reason"] == "deleting: waiting for the pods to end"
    assert len(await stage.cluster.list(NODE_POOLS)) == 1

    await stage.cluster.delete(PODS, "head", "default")
    await stage.reconciled()
    assert await stage.cluster.list(NODE_POOLS) == []
    seen = await stage.reconciled()
    assert seen["status"]["reason"] == "deleting: waiting for Karpenter to return the machines"

    await stage.cluster.delete(NODE_CLAIMS, "default-smol-claim")
    await reconcile(stage.cluster, stage.replicas, KEY, stage.settings, now=NOW)
    assert await stage.cluster.list(WORKSPACES) == []
    assert await stage.cluster.list(SERVICES) == []
    assert "Deleting" in await stage.events()


async def test_a_workspace_that_cannot_be_read_is_refused_and_can_be_deleted() -> None:
    stage = await Stage().given(workspace(inference={"adapters": "none"}))
    seen = await stage.reconciled()
    assert condition(seen, "InferenceReady")["message"].startswith("inference.adapters")
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    await reconcile(stage.cluster, stage.replicas, KEY, stage.settings, now=NOW)
    assert await stage.cluster.list(WORKSPACES) == []


async def test_a_workspace_that_is_gone_needs_nothing() -> None:
    assert await reconcile(FakeCluster(), FakeReplicas(), KEY, LOCAL) is None


@pytest.mark.parametrize("error", [Conflict("changed"), ApiUnavailable("gone")])
async def test_what_passes_by_itself_is_left_to_the_queue(error: Exception) -> None:
    stage = await Stage().given()
    stage.cluster.fail_next(error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await stage.reconciled()


async def test_what_the_api_server_refuses_is_said_and_tried_again_soon() -> None:
    stage = await Stage().given()

    async def refuse(*_: Any) -> Manifest:
        raise ApiRefused("rayservices.ray.io is not known to the API server; is its CRD installed?")

    create, stage.cluster.create = stage.cluster.create, refuse  # type: ignore[method-assign]
    again = await reconcile(stage.cluster, stage.replicas, KEY, LOCAL, now=NOW)
    stage.cluster.create = create  # type: ignore[method-assign]
    assert again == 30.0
    seen = await stage.get(WORKSPACES, "smol")
    assert condition(seen, "InferenceReady")["reason"] == "ApiRefused"


async def test_writes_are_in_an_order_that_survives_a_crash_after_each() -> None:
    """Whatever is missing is made by the next pass: the passes differ from one pass only in when they write."""
    whole = await Stage().given()
    await whole.reconciled()
    expected = {w for w in whole.cluster.writes if w.kind != "Event"}
    broken = await Stage().given()
    for _ in range(len(expected) + 6):
        writes = len(broken.cluster.writes)
        create = broken.cluster.create

        async def once(resource: Resource, manifest: Manifest, create: Any = create, writes: int = writes) -> Manifest:
            if len(broken.cluster.writes) > writes:
                raise ApiUnavailable("crashed")
            return await create(resource, manifest)

        broken.cluster.create = once  # type: ignore[method-assign]
        try:
            await broken.reconciled()
        except ApiUnavailable:
            pass
        finally:
            broken.cluster.create = create  # type: ignore[method-assign]
    assert {w for w in broken.cluster.writes if w.kind != "Event"} >= expected
    assert Write("create", "RayService", "smol") in broken.cluster.writes
