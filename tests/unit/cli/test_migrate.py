"""`kaito-ray migrate`: a Workspace of KAITO's handed over, and the command killed between any two of its steps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from kaito_ray.api.crd import crd
from kaito_ray.cli import connection
from kaito_ray.cli.main import app
from kaito_ray.cli.migrate import CannotMigrate, MigrationStuck, handed_over, look, require_ready_for_it
from kaito_ray.cli.migration import REPLICAS_BEFORE, steps
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import UserError
from kaito_ray.kube.cluster import (
    CRDS,
    DEPLOYMENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    RAY_SERVICES,
    REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    WORKSPACES,
    Manifest,
    Resource,
)
from kaito_ray.testing.builders import TUNING, merged, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas
from kaito_ray.testing.kaito import Provisioner, kaito_workspace, served_by_kaito

AZURE = Settings(provider="azure")
OWN_POD = {"preset": None, "template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}}
each_provisioner = pytest.mark.parametrize("provisioner", ["gpu-provisioner", "karpenter"])


class Killed(BaseException):
    """The command is gone: nothing that catches errors sees this one."""


@dataclass
class Cluster(FakeCluster):
    """One Workspace of KAITO's; whoever hands it over may die after any of its writes."""

    lives_for: int | None = None

    async def operated(self) -> None:
        """Be the operator, and play KubeRay and the Deployment's controller: one look."""
        mortal, self.lives_for = self.lives_for, None
        await reconcile(self, FakeReplicas(), Key("default", "phi"), AZURE)
        if live := await self.get(RAY_SERVICES, "phi", "default"):
            await self.replace_status(RAY_SERVICES, {**live, "status": ready_ray_service_status("phi-abcde")})
        if (pods := await self.get(DEPLOYMENTS, "phi", "default")) and "annotations" in pods["metadata"]:
            told = {"observedGeneration": 99, "availableReplicas": 1, "updatedReplicas": 1, "replicas": 1}
            await self.replace_status(DEPLOYMENTS, {**pods, "status": told})
        self.lives_for = mortal

    def outlived(self) -> None:
        if self.lives_for is not None:
            self.lives_for -= 1
            if self.lives_for <= 0:
                raise Killed

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        stored = await super().replace(resource, manifest)
        self.outlived()
        return stored

    async def delete(self, resource: Resource, name: str, *more: Any, **options: Any) -> None:
        await super().delete(resource, name, *more, **options)
        self.outlived()

    async def handed_over(self, said: list[str] | None = None) -> None:
        async def time_passes(_: float) -> None:
            await self.operated()

        say = [] if said is None else said
        await handed_over(self, "default", "phi", say=say.append, timeout_s=60, sleep=time_passes)

    async def story(self) -> Manifest:
        """Return what there is, without what differs from one time to the next."""
        kinds = (
            WORKSPACES,
            SERVICES,
            STATEFUL_SETS,
            DEPLOYMENTS,
            REVISIONS,
            NODE_POOLS,
            NODE_CLAIMS,
            NODES,
            RAY_SERVICES,
        )
        found: Manifest = {}
        for kind in kinds:
            for one in await self.list(kind):
                meta = one["metadata"]
                marks = (meta.get("labels"), sorted(meta.get("annotations") or {}), bool(meta.get("ownerReferences")))
                found[f"{kind.kind} {meta['name']}"] = [marks, one.get("spec"), (one.get("status") or {}).get("state")]
        return found


async def of_kaito(provisioner: Provisioner = "gpu-provisioner", **changes: Any) -> Cluster:
    cluster = Cluster()
    await cluster.create(CRDS, crd())
    await served_by_kaito(cluster, kaito_workspace(**changes), provisioner)
    return cluster


async def test_until_it_is_handed_over_the_operator_leaves_it_alone() -> None:
    for provisioner in ("gpu-provisioner", "karpenter"):
        cluster = await of_kaito(provisioner)  # type: ignore[arg-type]
        before = await cluster.story()
        await cluster.operated()
        after = await cluster.story()
        assert {key: value for key, value in after.items() if "Workspace" not in key} == {
            key: value for key, value in before.items() if "Workspace" not in key
        }
        told = (await cluster.list(WORKSPACES))[0]["status"]["conditions"][0]
        assert (told["reason"], "`kaito-ray migrate phi`" in told["message"]) == ("ManagedByKaito", True)


@each_provisioner
async def test_machines_and_address_stay_and_what_kaito_made_goes(provisioner: Provisioner) -> None:
    cluster = await of_kaito(provisioner)
    said: list[str] = []
    await cluster.handed_over(said)
    (claim,) = await cluster.list(NODE_CLAIMS)
    (node,) = await cluster.list(NODES)
    (service,) = await cluster.list(SERVICES)
    (mine,) = await cluster.list(WORKSPACES)
    for one in (claim, node):
        assert one["metadata"]["labels"]["kaito.sh/workspace"] == "phi"
    assert service["spec"]["selector"]["ray.io/cluster"] == "phi-abcde"
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert (mine["status"]["state"], mine["status"]["workerNodes"]) == ("Ready", ["node-phi"])
    assert mine["metadata"]["annotations"] == {}
    assert mine["metadata"]["finalizers"] == ["workspace.finalizer.kaito.sh"]
    for kind in (STATEFUL_SETS, REVISIONS):
        assert await cluster.list(kind) == []
    assert steps(await look(cluster, "default", "phi")) == ()
    order = [
        next(i for i, line in enumerate(said) if words in line) for words in ("stop", "wait", "StatefulSet", "marks")
    ]
    assert order == sorted(order)


async def test_the_service_leads_to_kaito_until_the_model_answers() -> None:
    cluster = await of_kaito()
    cluster.lives_for = 2
    with pytest.raises(Killed):
        await cluster.handed_over()
    cluster.lives_for = None
    looks = 0
    while not await cluster.get(RAY_SERVICES, "phi", "default"):
        await reconcile(cluster, FakeReplicas(), Key("default", "phi"), AZURE)
        looks += 1
        assert looks < 5
    service = await cluster.get(SERVICES, "phi", "default")
    assert service is not None
    assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "phi-0"


@each_provisioner
@pytest.mark.parametrize("changes", [{}, {"inference": OWN_POD}], ids=["a model", "a pod of one's own"])
async def test_killed_between_any_two_steps_it_ends_in_the_same_place(
    provisioner: Provisioner, changes: Manifest
) -> None:
    undisturbed = await of_kaito(provisioner, **changes)
    await undisturbed.handed_over()
    wanted = await undisturbed.story()
    kills = 0
    for lives_for in range(1, 30):
        cluster = await of_kaito(provisioner, **changes)
        cluster.lives_for = lives_for
        try:
            await cluster.handed_over()
        except Killed:
            kills += 1
            cluster.lives_for = None
            await cluster.handed_over()
        assert await cluster.story() == wanted
        if kills < lives_for:
            break
    assert kills >= 3


async def test_a_pod_of_ones_own_is_taken_over_with_the_selector_that_it_has() -> None:
    cluster = await of_kaito(inference=OWN_POD)
    await cluster.handed_over()
    (pods,) = await cluster.list(DEPLOYMENTS)
    assert pods["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "kaito-ray"
    assert pods["spec"]["selector"] == {"matchLabels": {"kaito.sh/workspace": "phi"}}
    assert pods["spec"]["template"]["metadata"]["labels"]["kaito.sh/workspacenamespace"] == "default"


@each_provisioner
async def test_machines_that_were_taken_over_go_with_the_workspace(provisioner: Provisioner) -> None:
    cluster = await of_kaito(provisioner)
    await cluster.handed_over()
    await cluster.delete(WORKSPACES, "phi", "default")
    for _ in range(10):
        await cluster.operated()
    assert await cluster.list(WORKSPACES) == []
    assert await cluster.list(NODE_CLAIMS) == []
    assert await cluster.list(NODE_POOLS) == []


async def test_one_of_kaitos_that_is_deleted_is_not_held_up_by_its_pods() -> None:
    cluster = await of_kaito()
    (pods,) = await cluster.list(STATEFUL_SETS)
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "phi", "uid": pods["metadata"]["uid"]}
    labels = {"kaito.sh/workspace": "phi"}
    await cluster.create(PODS, {"metadata": {"name": "phi-0", "labels": labels, "ownerReferences": [owner]}})
    await cluster.delete(WORKSPACES, "phi", "default")
    for _ in range(5):
        await cluster.operated()
    assert await cluster.list(WORKSPACES) == []
    assert await cluster.list(PODS) == []


async def test_how_many_pods_there_were_is_kept_for_the_way_back() -> None:
    cluster = await of_kaito()
    cluster.lives_for = 1
    with pytest.raises(Killed):
        await cluster.handed_over()
    (stopped,) = await cluster.list(STATEFUL_SETS)
    assert (stopped["spec"]["replicas"], stopped["metadata"]["annotations"][REPLICAS_BEFORE]) == (0, "1")


async def test_a_model_that_does_not_answer_is_told_with_its_reason() -> None:
    cluster = await of_kaito()

    async def time_passes(_: float) -> None:
        await reconcile(cluster, FakeReplicas(), Key("default", "phi"), AZURE)

    with pytest.raises(
        MigrationStuck, match=r"waiting for KubeRay to create the Ray cluster; .*|.*the same command goes on"
    ):
        await handed_over(cluster, "default", "phi", say=lambda _: None, timeout_s=6, sleep=time_passes)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "there is no Workspace 'phi'"),
        (merged(workspace(metadata={"name": "phi"}, inference=None, tuning=TUNING), {}), "tunes a model"),
        (
            kaito_workspace(metadata={"annotations": {"kaito.sh/bypass-resource-checks": "true"}}),
            "never left to chance",
        ),
    ],
    ids=["absent", "tuning", "refused"],
)
async def test_what_would_not_be_served_is_refused_before_anything_is_touched(manifest: Any, words: str) -> None:
    cluster = Cluster()
    if manifest is not None:
        await cluster.create(WORKSPACES, manifest)
    with pytest.raises(UserError, match=words):
        await require_ready_for_it(cluster, "default", "phi")


async def test_while_kaito_is_there_nothing_is_touched() -> None:
    cluster = Cluster()
    await cluster.create(CRDS, merged(crd(), {"metadata": {"annotations": {"ray.kaito.sh/crd-owner": None}}}))
    await served_by_kaito(cluster, kaito_workspace())
    with pytest.raises(CannotMigrate, match="is not kaito-ray's"):
        await require_ready_for_it(cluster, "default", "phi")


async def test_one_that_was_never_kaitos_has_nothing_to_hand_over() -> None:
    cluster = Cluster()
    await cluster.create(WORKSPACES, workspace(metadata={"name": "phi"}))
    assert steps(await look(cluster, "default", "phi")) == ()


def test_a_dry_run_says_each_step_and_does_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = asyncio.run(of_kaito("karpenter"))
    monkeypatch.setattr(connection, "find", lambda **_: SimpleNamespace(namespace="default"))
    monkeypatch.setattr(connection, "ask", lambda _, run: asyncio.run(run(cluster)))
    writes = len(cluster.writes)
    done = CliRunner().invoke(app, ["migrate", "phi", "--dry-run"])
    assert done.exit_code == 0, done.output
    lines = " ".join(done.output.split())
    for number, words in enumerate(
        (
            "keep NodeClaim default-phi-x7k2p",
            "keep Node node-phi",
            "remove KAITO's NodePool default-phi",
            "stop KAITO's pods (1)",
            "let the operator serve",
            "wait until the model answers",
            "remove KAITO's StatefulSet phi",
            "remove KAITO's Service phi-headless",
            "remove KAITO's ControllerRevision phi-5f0c4",
            "remove KAITO's marks",
        ),
        1,
    ):
        assert f"{number}. {words}" in lines
    assert len(cluster.writes) == writes
