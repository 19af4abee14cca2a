"""A machine that does not come, in each phase and with both who make machines: told within seconds, with what is next.

The phases are real statuses of NodeClaims. Afterwards the machine comes all the same, and everything is there once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from kaito_ray.kube.cluster import (
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PODS,
    RAY_SERVICES,
    SECRETS,
    SERVICES,
    WORKSPACES,
    Manifest,
)
from kaito_ray.testing.builders import workspace
from tests.operator import INSTANCE_TYPE, Scene, claim, condition, gpu_node, operator, ray_pod, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER: Final = "Standard_NC40ads_H100_v5"
STAGES: Final = ("Launched", "Registered", "Initialized", "Ready")
PHASES: Final[dict[str, tuple[str, str, str, str, str]]] = {
    "quota": ("Launched", "LaunchFailed", "Family vCPU quota exceeded in eastus", "QuotaExceeded", f"next: {OTHER}"),
    "capacity": ("Launched", "SKUNotAvailable", "not available in eastus", "SKUNotAvailable", f"next: {OTHER}"),
    "joining": ("Registered", "MultipleNodesFound", "matched two nodes", "MultipleNodesFound", "another is made"),
    "plugin": (
        *("Initialized", "ResourceNotRegistered", "Resource nvidia.com/gpu was requested but not registered"),
        *("ResourceNotRegistered", "is NVIDIA's device plugin installed?; nothing else is tried"),
    ),
    "taint": (
        "Initialized",
        "StartupTaintsExist",
        "StartupTaint x still exists",
        "StartupTaintsExist",
        "startup taint",
    ),
}
"""Phase -> stage of the claim, reason and message there; reason and words of the Workspace."""
CHILDREN: Final = (NODE_POOLS, NODE_CLAIMS, SECRETS, SERVICES, NETWORK_POLICIES, DISRUPTION_BUDGETS, RAY_SERVICES)


class Cloud:
    """Plays Karpenter or gpu-provisioner, and the cloud."""

    def __init__(self, scene: Scene, provisioner: str) -> None:
        self.scene = scene
        self.provisioner = provisioner

    async def applied(self, name: str) -> None:
        resource = {"instanceTypes": [INSTANCE_TYPE, OTHER]}
        given = workspace(metadata={"name": name}, resource=resource, inference={"preset": {"name": "phi-4"}})
        await self.scene.cluster.create(WORKSPACES, given)

    async def claims(self, name: str) -> list[Manifest]:
        return await self.scene.cluster.list(NODE_CLAIMS, labels={"kaito.sh/workspace": name})

    async def claim(self, name: str, *, besides: str | None = None) -> Manifest:
        """Return the claim of a Workspace that is not being deleted; of a NodePool, make it."""
        if self.provisioner == "karpenter" and not await self.claims(name):
            pool = await self.scene.exists(NODE_POOLS, f"default-{name}")
            await self.scene.make(NODE_CLAIMS, claim(name, pool["spec"]["template"]["spec"]))

        async def alive() -> list[Manifest]:
            found = [c for c in await self.claims(name) if "deletionTimestamp" not in c["metadata"]]
            return [c for c in found if c["metadata"]["name"] != besides]

        (found,) = await self.scene.until(alive)
        return dict(found)

    async def stuck(self, name: str, stage: str, reason: str, message: str) -> None:
        reached = STAGES.index(stage)
        said = [condition(s, "True" if i < reached else "Unknown", s) for i, s in enumerate(STAGES)]
        said[reached] |= {"reason": reason, "message": message}
        live = await self.claim(name)
        await self.scene.cluster.replace_status(NODE_CLAIMS, {**live, "status": {"conditions": said}})

    async def met(self, name: str, node: str) -> None:
        live = await self.claim(name)
        await self.scene.make(NODES, gpu_node(node, name))
        status = {"nodeName": node, "conditions": [condition(stage, "True", stage) for stage in STAGES]}
        await self.scene.cluster.replace_status(NODE_CLAIMS, {**live, "status": status})

    async def ready(self, name: str, node: str) -> None:
        await self.met(name, node)
        await self.scene.served(name)
        await self.is_(name, "WorkspaceReady", "True")

    async def is_(self, name: str, type_: str, status: str) -> None:
        async def so() -> bool:
            return (await self.scene.condition(name, type_)).get("status") == status

        await self.scene.until(so)

    async def gone(self, *names: str) -> None:
        """Delete the Workspaces, and see that nothing is left of them."""
        for name in names:
            await self.scene.cluster.delete(WORKSPACES, name, "default")
        for name in names:
            await self.scene.gone(WORKSPACES, name)

        async def nothing() -> bool:
            left = [
                await self.scene.cluster.list(kind, labels={"kaito.sh/workspace": n})
                for kind in CHILDREN
                for n in names
            ]
            return not any(left)

        await self.scene.until(nothing)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["karpenter", "nodeclaim"])
async def cloud(request: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cloud]:
    home: Path = tmp_path_factory.mktemp(request.param)
    async with operator(home, "--provider", "azure", "--provisioner", request.param) as scene:
        yield Cloud(scene, request.param)
        assert await scene.stop() == 0


async def test_each_phase_is_told_and_the_machine_that_comes_later_serves(cloud: Cloud) -> None:
    async def story(name: str) -> None:
        stage, reason, message, told, words = PHASES[name]
        await cloud.applied(name)
        await cloud.scene.exists(RAY_SERVICES, name)
        await cloud.stuck(name, stage, reason, message)

        async def said() -> dict[str, Any]:
            found = await cloud.scene.condition(name, "NodeClaimReady")
            return found if found.get("reason") == told else {}

        condition_ = await cloud.scene.until(said)
        assert words in condition_["message"]
        assert message[:20] in condition_["message"]
        assert condition_["status"] == "False"
        why = (await cloud.scene.workspace(name))["status"]["reason"]
        assert 0 < len(why) <= 100
        assert (await cloud.scene.condition(name, "ResourceReady"))["reason"] == told
        await cloud.ready(name, f"node-{name}")
        assert len(await cloud.claims(name)) == 1

    await asyncio.gather(*map(story, PHASES))
    assert len(await cloud.scene.cluster.list(RAY_SERVICES)) == len(PHASES)
    await cloud.gone(*PHASES)


async def test_a_claim_deleted_under_a_serving_model_is_followed_by_one_other(cloud: Cloud) -> None:
    await cloud.applied("lost")
    await cloud.ready("lost", "node-lost-1")
    old = await cloud.claim("lost")
    await cloud.scene.cluster.delete(NODE_CLAIMS, old["metadata"]["name"])
    await cloud.scene.cluster.delete(NODES, "node-lost-1")
    await cloud.is_("lost", "ResourceReady", "False")
    if cloud.provisioner == "nodeclaim":
        new = await cloud.claim("lost", besides=old["metadata"]["name"])
        assert new["metadata"]["name"] != old["metadata"]["name"]
    await cloud.ready("lost", "node-lost-2")
    assert len(await cloud.claims("lost")) == 1
    assert len(await cloud.scene.cluster.list(RAY_SERVICES)) == 1
    await cloud.gone("lost")


async def test_a_second_cluster_that_gets_no_machine_leaves_the_first_serving(cloud: Cloud) -> None:
    """A rollout that never gets ready; taken back, the machines of the try are given back too."""
    await cloud.applied("stays")
    await cloud.ready("stays", "node-stays")
    await cloud.scene.make(PODS, ray_pod("stays", {"phase": "Running"}, node="node-stays"))
    upgrading = serving("stays-aaaaa")
    upgrading["conditions"].append(condition("UpgradeInProgress", "True", "BothActivePendingClustersExist"))
    upgrading["pendingServiceStatus"] = {"rayClusterName": "stays-bbbbb"}
    await cloud.scene.tell(RAY_SERVICES, "stays", upgrading)

    async def told() -> bool:
        return (await cloud.scene.condition("stays", "UpgradeInProgress")).get("status") == "True"

    await cloud.scene.until(told)
    await cloud.is_("stays", "WorkspaceReady", "True")
    if cloud.provisioner == "nodeclaim":

        async def asked() -> bool:
            return len(await cloud.claims("stays")) == 2

        await cloud.scene.until(asked)
    await cloud.scene.tell(RAY_SERVICES, "stays", serving("stays-aaaaa"))

    async def given_back() -> bool:
        found = await cloud.claims("stays")
        return [c["status"].get("nodeName") for c in found if "status" in c] == ["node-stays"] and len(found) == 1

    await cloud.scene.until(given_back)
    await cloud.is_("stays", "WorkspaceReady", "True")
    await cloud.scene.cluster.delete(PODS, "stays-aaaaa-head-bcdef", "default")
    await cloud.gone("stays")
