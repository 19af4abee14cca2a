"""What is taken from under a serving Workspace is told, and comes back without anything twice or left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kaito_ray.kube.cluster import NODE_CLAIMS, NODE_POOLS, NODES, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import workspace
from tests.operator import INSTANCE_TYPE, Scene, operator, starting


async def is_(scene: Scene, name: str, type_: str, status: str) -> None:
    async def so() -> bool:
        return (await scene.condition(name, type_)).get("status") == status

    await scene.until(so)


async def test_a_machine_that_is_deleted_while_serving_is_told_and_its_successor_is_taken(tmp_path: Path) -> None:
    async with operator(tmp_path, "--provider", "azure") as scene:
        resource, inference = {"instanceType": INSTANCE_TYPE}, {"preset": {"name": "phi-4"}}
        given = workspace(metadata={"name": "one"}, resource=resource, inference=inference)
        await scene.cluster.create(WORKSPACES, given)
        await scene.machine("one")
        await scene.exists(RAY_SERVICES, "one")
        await scene.served("one")
        await is_(scene, "one", "WorkspaceReady", "True")

        await scene.cluster.delete(NODE_CLAIMS, "default-one-x7k2p")
        await scene.cluster.delete(NODES, "node-one")
        await is_(scene, "one", "NodeClaimReady", "False")
        await scene.tell(RAY_SERVICES, "one", starting("one-bbbbb"))
        await is_(scene, "one", "InferenceReady", "False")

        await scene.machine("one")
        await scene.served("one")
        await is_(scene, "one", "WorkspaceReady", "True")
        for kind in (RAY_SERVICES, NODE_POOLS, NODE_CLAIMS):
            assert len(await scene.cluster.list(kind)) == 1

        await scene.cluster.delete(WORKSPACES, "one", "default")
        await scene.gone(NODE_POOLS, "default-one")
        await scene.cluster.delete(NODE_CLAIMS, "default-one-x7k2p")
        await scene.gone(WORKSPACES, "one")
        await scene.gone(RAY_SERVICES, "one")


async def test_without_kuberay_it_says_so_and_a_deletion_is_not_held_up(tmp_path: Path) -> None:
    async with operator(tmp_path, "--provider", "azure", vendored=False) as scene:
        resource, inference = {"instanceType": INSTANCE_TYPE}, {"preset": {"name": "phi-4"}}
        given = workspace(metadata={"name": "one"}, resource=resource, inference=inference)
        await scene.cluster.create(WORKSPACES, given)

        async def told() -> bool:
            return "CRD installed" in (await scene.condition("one", "InferenceReady")).get("message", "")

        await scene.until(told)
        await scene.cluster.delete(WORKSPACES, "one", "default")
        await scene.gone(WORKSPACES, "one")


async def test_claims_whose_kind_is_installed_late_are_made_then(tmp_path: Path) -> None:
    async with operator(tmp_path, "--provider", "azure", "--provisioner", "nodeclaim", vendored=False) as scene:
        resource, inference = {"instanceType": INSTANCE_TYPE}, {"preset": {"name": "phi-4"}}
        given = workspace(metadata={"name": "one"}, resource=resource, inference=inference)
        await scene.cluster.create(WORKSPACES, given)

        async def told() -> bool:
            return "nodeclaims" in (await scene.condition("one", "InferenceReady")).get("message", "").lower()

        await scene.until(told)
        await scene.install_others()
        assert scene.process is not None
        assert await asyncio.to_thread(scene.process.wait, 60) == 0
        await scene.start()
        await scene.exists(RAY_SERVICES, "one")
        assert len(await scene.cluster.list(NODE_CLAIMS)) == 1
        await scene.cluster.delete(WORKSPACES, "one", "default")
        await scene.gone(WORKSPACES, "one")
        assert await scene.cluster.list(NODE_CLAIMS) == []
