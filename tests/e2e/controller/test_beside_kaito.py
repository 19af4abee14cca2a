"""Workspaces that KAITO served and a pod of one's own, on a real API server with the real operator and the real command."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from kaito_ray.kube.cluster import (
    DEPLOYMENTS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    RAY_SERVICES,
    REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    WORKSPACES,
)
from kaito_ray.testing.builders import merged
from kaito_ray.testing.kaito import kaito_workspace, served_by_kaito
from tests.operator import INSTANCE_TYPE, Scene, operator


async def migrate(scene: Scene, *options: str) -> str:
    command = [
        sys.executable,
        "-m",
        "kaito_ray.cli.main",
        "migrate",
        "phi",
        "--kubeconfig",
        str(scene.server.kubeconfig),
    ]
    process = await asyncio.create_subprocess_exec(*command, *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return " ".join(said.decode().split())


async def is_ready(scene: Scene, name: str) -> None:
    async def ready() -> bool:
        return (await scene.condition(name, "WorkspaceReady")).get("status") == "True"

    await scene.until(ready)


async def test_a_workspace_of_kaitos_is_left_alone_and_then_handed_over(tmp_path: Path) -> None:
    async with operator(tmp_path, "--provider", "azure") as scene:
        await served_by_kaito(scene.cluster, kaito_workspace(), "karpenter")

        async def left_alone() -> bool:
            return (await scene.condition("phi", "WorkspaceReady")).get("reason") == "ManagedByKaito"

        await scene.until(left_alone)
        assert await scene.cluster.get(RAY_SERVICES, "phi", "default") is None
        assert "8. remove KAITO's Service phi-headless" in await migrate(scene, "--dry-run")

        handing = asyncio.create_task(migrate(scene))
        await scene.exists(RAY_SERVICES, "phi")
        service = await scene.exists(SERVICES, "phi")
        assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "phi-0"
        assert (await scene.exists(STATEFUL_SETS, "phi"))["spec"]["replicas"] == 0
        await scene.served("phi")
        assert "phi is served by kaito-ray." in await handing

        moved = await scene.exists(SERVICES, "phi")
        assert moved["spec"]["clusterIP"] == service["spec"]["clusterIP"]
        assert moved["spec"]["selector"]["ray.io/cluster"] == "phi-aaaaa"
        assert [port["port"] for port in moved["spec"]["ports"]] == [80]
        assert (await scene.workspace("phi"))["status"]["workerNodes"] == ["node-phi"]
        (pool,) = await scene.cluster.list(NODE_POOLS)
        assert "replicas" not in pool["spec"]
        assert [claim["metadata"]["name"] for claim in await scene.cluster.list(NODE_CLAIMS)] == ["default-phi-x7k2p"]
        for kind in (STATEFUL_SETS, REVISIONS):
            assert await scene.cluster.list(kind) == []
        assert await migrate(scene) == "Nothing to do: nothing of KAITO's is left of phi."

        await scene.cluster.delete(WORKSPACES, "phi", "default")
        await scene.gone(WORKSPACES, "phi")
        for kind in (NODE_CLAIMS, NODE_POOLS, SERVICES):
            assert await scene.cluster.list(kind, "default" if kind.namespaced else None) == []


async def test_a_pod_of_ones_own_is_served_edited_and_gone(tmp_path: Path) -> None:
    def own_pod(**container: Any) -> dict[str, Any]:
        server = {"name": "server", "image": "server:1", "resources": {"limits": {"cpu": "1000m"}}, **container}
        return kaito_workspace(
            metadata={"name": "own", "annotations": None, "finalizers": None},
            resource={"instanceType": INSTANCE_TYPE},
            inference={"preset": None, "template": {"spec": {"containers": [server]}}},
        )

    def counts(generation: int) -> dict[str, int]:
        return {"observedGeneration": generation, "availableReplicas": 1, "updatedReplicas": 1, "replicas": 1}

    async with operator(tmp_path, "--provider", "azure") as scene:
        await scene.cluster.create(WORKSPACES, own_pod())
        await scene.machine("own")
        await scene.tell(DEPLOYMENTS, "own", counts(1))
        await is_ready(scene, "own")

        await scene.cluster.replace(WORKSPACES, merged(await scene.workspace("own"), own_pod(imagez="server:2")))

        async def refused() -> bool:
            return "imagez" in str((await scene.workspace("own"))["status"].get("reason"))

        await scene.until(refused)
        await scene.cluster.replace(WORKSPACES, merged(await scene.workspace("own"), own_pod(image="server:2")))

        async def rolled_out() -> bool:
            pods = (await scene.exists(DEPLOYMENTS, "own"))["spec"]["template"]["spec"]["containers"]
            return bool(pods[0]["image"] == "server:2")

        await scene.until(rolled_out)
        await scene.tell(DEPLOYMENTS, "own", counts(2))
        await is_ready(scene, "own")

        await scene.cluster.delete(WORKSPACES, "own", "default")
        await scene.gone(DEPLOYMENTS, "own")
        await scene.cluster.delete(NODE_CLAIMS, "default-own-x7k2p")
        await scene.gone(WORKSPACES, "own")
        assert await scene.cluster.list(NODES)
