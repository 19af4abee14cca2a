"""NodeClaims that the operator makes itself: as many as needed, another for each that is lost, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from kaito_ray.api.status import ReplicaStatus
from kaito_ray.controller.node_claims import NodeClaims
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import Conflict
from kaito_ray.kube.cluster import (
    EVENTS,
    NODE_CLAIMS,
    NODES,
    PODS,
    RAY_JOBS,
    RAY_SERVICES,
    SECRETS,
    WORKSPACES,
    Change,
    Manifest,
    Resource,
)
from kaito_ray.testing.builders import TUNING, node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster, Write
from kaito_ray.testing.fake_replicas import FakeReplicas

PROVISIONER = "nodeclaim"
"""Whose rights the operator has here, see conftest.py."""
FIRST, SECOND = "Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5"
T0, T1, T9 = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T01:00:00Z"
KARPENTER = "karpenter.sh/termination"
STAGES = ("Launched", "Registered", "Initialized", "Ready")


class Stage:
    """One Workspace; the test plays Karpenter, which holds each claim by a finalizer of its own."""

    def __init__(self, *types: str, provider: Any = "azure", **changes: Any) -> None:
        self.cluster = FakeCluster()
        self.settings = Settings(provider=provider, provisioner="nodeclaim")
        self.replicas = FakeReplicas()
        self.again_s: float | None = None
        self.heard: NodeClaims | None = None
        self.given = workspace(
            resource={"instanceTypes": list(types or (FIRST,))},
            **{"inference": {"preset": {"name": "phi-4"}}, **changes},
        )

    async def applied(self) -> Stage:
        await self.cluster.create(WORKSPACES, self.given)
        await self.looked()
        return self

    async def looked(self, now: str = T0) -> Manifest | None:
        self.again_s = await reconcile(
            self.cluster, self.replicas, Key("default", "smol"), self.settings, claims=self.heard, now=now
        )
        return await self.cluster.get(WORKSPACES, "smol", "default")

    async def claims(self) -> list[Manifest]:
        return await self.cluster.list(NODE_CLAIMS)

    async def types(self) -> list[str]:
        return [type_of(claim) for claim in await self.claims() if "deletionTimestamp" not in claim["metadata"]]

    async def seen_by_karpenter(self) -> None:
        for claim in await self.claims():
            finalizers = claim["metadata"]["finalizers"]
            if KARPENTER not in finalizers:
                meta = {**claim["metadata"], "finalizers": [*finalizers, KARPENTER]}
                await self.cluster.replace(NODE_CLAIMS, {**claim, "metadata": meta})

    async def condition_of(self, claim: Manifest, **stages: Any) -> None:
        conditions = [{"type": s, "status": "Unknown", "reason": s, **stages.get(s, {})} for s in STAGES]
        await self.cluster.replace_status(NODE_CLAIMS, {**claim, "status": {"conditions": conditions}})

    async def met(self, *, node_names: tuple[str, ...] = ("node-a",)) -> None:
        """Play Karpenter and the cloud: every claim becomes a node."""
        alive = [claim for claim in await self.claims() if "deletionTimestamp" not in claim["metadata"]]
        for claim, name in zip(alive, node_names, strict=True):
            if await self.cluster.get(NODES, name) is None:
                await self.cluster.create(NODES, node(name, gpus=1))
            conditions = [{"type": s, "status": "True", "reason": s} for s in STAGES]
            await self.cluster.replace_status(
                NODE_CLAIMS, {**claim, "status": {"nodeName": name, "conditions": conditions}}
            )

    async def ends(self, claim: Manifest) -> None:
        """Play Karpenter: the claim is deleted, and its machine is gone."""
        await self.cluster.delete(NODE_CLAIMS, claim["metadata"]["name"])
        live = await self.cluster.get(NODE_CLAIMS, claim["metadata"]["name"])
        if live is not None and KARPENTER in live["metadata"]["finalizers"]:
            rest = [name for name in live["metadata"]["finalizers"] if name != KARPENTER]
            await self.cluster.replace(NODE_CLAIMS, {**live, "metadata": {**live["metadata"], "finalizers": rest}})

    async def serving(self) -> Manifest | None:
        live = await self.cluster.get(RAY_SERVICES, "smol", "default")
        assert live is not None
        await self.cluster.replace_status(RAY_SERVICES, {**live, "status": ready_ray_service_status()})
        return await self.looked()

    async def scaled_to(self, copies: int) -> Manifest | None:
        """Let Ray say that so many run, and look until it is told, carried out and let go."""
        self.replicas.counts = ReplicaStatus(desired=copies, ready=copies)
        for _ in range(2):
            await self.looked()
        return await self.looked()


def after(seconds: int) -> str:
    return f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}Z"


def type_of(claim: Manifest) -> str:
    (found,) = [r["values"] for r in claim["spec"]["requirements"] if r["key"] == "node.kubernetes.io/instance-type"]
    return str(found[0])


def condition(manifest: Manifest | None, type_: str) -> Manifest:
    assert manifest is not None
    return next(c for c in manifest["status"]["conditions"] if c["type"] == type_)


async def test_a_workspace_gets_a_claim_for_each_machine_and_no_pool() -> None:
    stage = await Stage().applied()
    (claim,) = await stage.claims()
    assert claim["metadata"]["name"].startswith("ws")
    assert len(claim["metadata"]["name"]) == 11
    assert claim["metadata"]["labels"]["kaito.sh/workspace"] == "smol"
    assert claim["spec"]["expireAfter"] == "Never"
    assert claim["spec"]["nodeClassRef"]["kind"] == "KaitoNodeClass"
    assert {w.kind for w in stage.cluster.writes} & {"NodePool"} == set()


async def test_resources_are_ready_when_the_claims_nodes_are() -> None:
    stage = await Stage().applied()
    assert condition(await stage.looked(), "ResourceReady")["status"] == "False"
    await stage.met()
    seen = await stage.looked()
    assert condition(seen, "ResourceReady")["status"] == "True"
    assert seen is not None
    assert seen["status"]["workerNodes"] == ["node-a"]


async def test_at_rest_nothing_is_written() -> None:
    stage = await Stage().applied()
    await stage.met()
    await stage.serving()
    before = len(stage.cluster.writes)
    await stage.looked(T9)
    assert stage.cluster.writes[before:] == []


async def test_from_create_to_ready_it_writes_no_more_than_twelve_times() -> None:
    stage = await Stage().applied()
    await stage.met()
    await stage.serving()
    mine = [w for w in stage.cluster.writes if w.kind not in ("Event", "Node")]
    played = [
        Write("replace_status", "NodeClaim", ""),
        Write("create", "Workspace", ""),
        Write("replace_status", "RayService", ""),
    ]
    assert len(mine) - len(played) <= 12


@pytest.mark.parametrize("told", ["condition", "event"])
async def test_where_there_is_no_capacity_the_next_type_is_tried_and_told(told: str) -> None:
    stage = await Stage(FIRST, SECOND).applied()
    (claim,) = await stage.claims()
    await stage.seen_by_karpenter()
    if told == "condition":
        said = {"reason": "SKUNotAvailable", "message": "none left in eastus"}
        (claim,) = await stage.claims()
        await stage.condition_of(claim, Launched=said)
    else:
        about = {"kind": "NodeClaim", "name": claim["metadata"]["name"]}
        event = {
            "involvedObject": about,
            "type": "Warning",
            "reason": "InsufficientCapacityError",
            "message": "none left",
        }
        meta = {"name": "e", "namespace": "default"}
        await stage.cluster.create(EVENTS, {"metadata": meta, **event, "lastTimestamp": T0})
    await stage.ends(claim)
    seen = condition(await stage.looked(T1), "NodeClaimReady")
    assert seen["reason"] == {"condition": "SKUNotAvailable", "event": "InsufficientCapacityError"}[told]
    assert f"next: {SECOND}" in seen["message"]
    assert await stage.types() == [SECOND]
    assert len(await stage.claims()) == 1
    # The word stands until the next claim has one of its own.
    assert condition(await stage.looked(T1), "NodeClaimReady") == seen


async def test_after_the_last_type_there_is_a_pause_and_then_the_first_again() -> None:
    stage = await Stage(FIRST, SECOND).applied()
    for _ in range(2):
        (claim,) = await stage.claims()
        await stage.ends(claim)
        await stage.looked(T0)
    assert await stage.types() == []
    assert len(await stage.claims()) == 1  # it is remembered
    assert stage.again_s is not None and stage.again_s <= 30
    await stage.looked(after(29))
    assert await stage.types() == []
    await stage.looked(after(30))
    assert await stage.types() == [FIRST]
    assert len(await stage.claims()) == 1


async def test_the_pause_grows_and_is_never_longer_than_five_minutes() -> None:
    stage = await Stage().applied()
    for pause in (30, 60, 120, 240, 300, 300):
        (claim,) = await stage.claims()
        await stage.ends(claim)
        await stage.looked(T0)
        await stage.looked(after(pause - 1))
        assert await stage.types() == []
        await stage.looked(after(pause))
        assert await stage.types() == [FIRST]


async def test_a_node_that_is_lost_is_replaced_at_once_by_the_first_type() -> None:
    stage = await Stage(FIRST, SECOND).applied()
    await stage.seen_by_karpenter()
    await stage.met()
    await stage.serving()
    (claim,) = await stage.claims()
    await stage.cluster.delete(NODE_CLAIMS, claim["metadata"]["name"])  # and Karpenter drains
    await stage.looked(T1)
    old, new = sorted(await stage.claims(), key=lambda c: "deletionTimestamp" not in c["metadata"])
    assert old["metadata"]["finalizers"] == [KARPENTER]
    assert type_of(new) == FIRST
    await stage.ends(old)
    await stage.looked(T1)
    assert await stage.claims() == [new]


async def test_an_operator_killed_between_the_two_writes_makes_no_third_claim() -> None:
    stage = await Stage(FIRST, SECOND).applied()
    (claim,) = await stage.claims()
    await stage.ends(claim)
    await stage.looked(T1)
    (successor,) = await stage.claims()
    # As if the predecessor had not been let go.
    again = {**claim, "metadata": {**claim["metadata"], "resourceVersion": "", "finalizers": ["ray.kaito.sh/claim"]}}
    await stage.cluster.create(NODE_CLAIMS, again)
    await stage.cluster.delete(NODE_CLAIMS, claim["metadata"]["name"])
    await stage.looked(T1)
    assert [c["metadata"]["name"] for c in await stage.claims()] == [successor["metadata"]["name"]]


class Killed(BaseException):
    """The process is gone: nothing that catches errors sees this one."""


class Mortal(FakeCluster):
    """Ends the operator when its n-th write has taken effect, once."""

    lives_for: int | None = None
    looking = False

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal(await super().create(resource, manifest))

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal(await super().replace(resource, manifest))

    async def replace_status(self, resource: Resource, manifest: Manifest) -> Manifest:
        return self._mortal(await super().replace_status(resource, manifest))

    async def delete(self, *args: Any, **more: Any) -> None:
        await super().delete(*args, **more)
        self._mortal({})

    def _mortal(self, answer: Manifest) -> Manifest:
        if self.looking and self.lives_for is not None:
            self.lives_for -= 1
            if self.lives_for <= 0:
                self.lives_for = None
                raise Killed
        return answer


async def looked_until_it_lives(stage: Stage, cluster: Mortal, now: str) -> None:
    while True:
        cluster.looking = True
        try:
            await stage.looked(now)
        except Killed:
            continue
        finally:
            cluster.looking = False
        assert len(await stage.types()) <= 1
        return


@pytest.mark.parametrize("lives_for", range(1, 36))
async def test_an_operator_killed_after_any_write_neither_doubles_nor_leaves_a_claim(lives_for: int) -> None:
    """A claim that fails, one that serves, one that is lost, and a deletion."""
    stage, cluster = Stage(FIRST, SECOND), Mortal()
    stage.cluster, cluster.lives_for = cluster, lives_for
    await cluster.create(WORKSPACES, stage.given)
    await looked_until_it_lives(stage, cluster, T0)
    (claim,) = await stage.claims()
    await stage.ends(claim)
    await looked_until_it_lives(stage, cluster, T1)
    assert await stage.types() == [SECOND]
    await stage.met()
    await looked_until_it_lives(stage, cluster, T1)
    (claim,) = await stage.claims()
    await stage.ends(claim)
    await looked_until_it_lives(stage, cluster, T1)
    assert await stage.types() == [FIRST]
    await cluster.delete(WORKSPACES, "smol", "default")
    for _ in range(4):
        await looked_until_it_lives(stage, cluster, T1)
    assert await cluster.get(WORKSPACES, "smol", "default") is None
    assert await stage.claims() == []


class Deaf(FakeCluster):
    """Its watches tell nothing of what happens after they began."""

    async def watch(self, *_: Any) -> AsyncGenerator[Change, None]:
        yield Change("SYNCED", {})
        await asyncio.Event().wait()


async def test_a_claim_that_is_not_heard_of_yet_is_neither_doubled_nor_left_behind() -> None:
    stage = Stage()
    stage.cluster = Deaf()
    stage.heard = NodeClaims(stage.cluster)
    following = asyncio.create_task(stage.heard.follow())
    await asyncio.sleep(0)
    await stage.applied()
    with pytest.raises(Conflict):
        await stage.looked()
    assert len(await stage.claims()) == 1
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    for _ in range(3):
        await stage.looked()
    assert await stage.claims() == []
    assert await stage.looked() is None
    following.cancel()


async def test_an_upgrade_gets_a_second_set_and_gives_back_the_machines_without_pods() -> None:
    stage = await Stage().applied()
    await stage.met()
    await stage.serving()
    live = await stage.cluster.get(RAY_SERVICES, "smol", "default")
    assert live is not None
    upgrading = {
        **live["status"],
        "conditions": [*live["status"]["conditions"], {"type": "UpgradeInProgress", "status": "True"}],
    }
    live = await stage.cluster.replace_status(RAY_SERVICES, {**live, "status": upgrading})
    await stage.looked()
    assert await stage.types() == [FIRST, FIRST]
    await stage.met(node_names=("node-a", "node-b"))
    labels = {"kaito.sh/workspace": "smol"}
    pod = {"metadata": {"name": "head", "namespace": "default", "labels": labels}, "spec": {"nodeName": "node-b"}}
    await stage.cluster.create(PODS, pod)
    await stage.cluster.replace_status(RAY_SERVICES, {**live, "status": ready_ray_service_status()})
    for _ in range(2):
        await stage.looked()
    (kept,) = await stage.claims()
    assert kept["status"]["nodeName"] == "node-b"


async def three_replicas() -> Stage:
    scaling = {"minReplicas": 0, "maxReplicas": 3}
    stage = await Stage(inference={"preset": {"name": "phi-4"}, "autoscaling": scaling}).applied()
    assert await stage.types() == [FIRST]
    await stage.met()
    token = {"metadata": {"name": "smol-abcde", "namespace": "default"}, "data": {"auth_token": "dG9rZW4="}}
    await stage.cluster.create(SECRETS, token)
    await stage.serving()
    await stage.scaled_to(3)
    await stage.met(node_names=("node-a", "node-b", "node-c"))
    return stage


async def test_machines_come_with_the_replicas_that_load_asks_for() -> None:
    assert await (await three_replicas()).types() == [FIRST] * 3


async def test_of_the_machines_that_load_needs_no_more_those_with_pods_stay() -> None:
    stage = await three_replicas()
    pod = {"metadata": {"name": "worker", "namespace": "default", "labels": {"kaito.sh/workspace": "smol"}}}
    await stage.cluster.create(PODS, {**pod, "spec": {"nodeName": "node-b"}})
    await stage.scaled_to(1)
    (kept,) = await stage.claims()
    assert kept["status"]["nodeName"] == "node-b"


async def test_scaled_to_zero_every_machine_is_given_back_and_it_is_ready() -> None:
    stage = await three_replicas()
    seen = await stage.scaled_to(0)
    assert await stage.claims() == []
    assert condition(seen, "InferenceReady")["reason"] == "ScaledToZero"
    assert condition(seen, "ResourceReady")["status"] == "True"


async def test_the_machines_go_with_the_workspace_and_after_its_pods() -> None:
    stage = await Stage().applied()
    await stage.seen_by_karpenter()
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    pod = {"metadata": {"name": "head", "namespace": "default", "labels": {"kaito.sh/workspace": "smol"}}, "spec": {}}
    await stage.cluster.create(PODS, pod)
    for _ in range(3):
        await stage.looked()
    assert await stage.types() == [FIRST]
    await stage.cluster.delete(PODS, "head", "default")
    for _ in range(3):
        await stage.looked()
    (claim,) = await stage.claims()
    assert claim["metadata"]["finalizers"] == [KARPENTER]
    assert await stage.cluster.get(WORKSPACES, "smol", "default") is not None
    await stage.ends(claim)
    assert await stage.looked() is None


async def test_a_tuning_workspace_gives_its_machine_back_when_the_job_has_ended() -> None:
    stage = Stage(inference=None, tuning=TUNING)
    secret = {"metadata": {"name": "push", "namespace": "default"}, "data": {}}
    await stage.cluster.create(SECRETS, secret)
    await stage.applied()
    assert await stage.claims() == [], "the data is looked at first"
    ended = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
    for name, claimed in (("smol-data", [FIRST]), ("smol", [])):
        job = await stage.cluster.get(RAY_JOBS, name, "default")
        assert job is not None
        await stage.cluster.replace_status(RAY_JOBS, {**job, "status": ended})
        for _ in range(2):
            await stage.looked()
        assert await stage.types() == claimed


@pytest.mark.parametrize("resource", [{"zones": ["1"]}, {"capacityTypes": ["spot"]}])
async def test_what_gpu_provisioner_would_not_read_is_refused(resource: Manifest) -> None:
    stage = Stage()
    stage.given["resource"] |= resource
    seen = await (await stage.applied()).looked()
    (field,) = resource
    assert condition(seen, "InferenceReady")["message"].startswith(f"resource.{field}: gpu-provisioner")
    assert await stage.claims() == []


async def test_on_aws_they_are_bought_as_asked() -> None:
    stage = Stage("p4d.24xlarge", provider="aws")
    stage.given["resource"] |= {"zones": ["us-east-1a"], "capacityTypes": ["spot"]}
    (claim,) = await (await stage.applied()).claims()
    asked = {r["key"]: r["values"] for r in claim["spec"]["requirements"]}
    assert asked["karpenter.sh/capacity-type"] == ["spot"]
    assert asked["topology.kubernetes.io/zone"] == ["us-east-1a"]
    assert claim["spec"]["resources"]["requests"] == {"nvidia.com/gpu": "8"}
