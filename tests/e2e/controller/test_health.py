"""What a cluster sees of two operator processes: probes, metrics, who leads, and a stop that hands over at once."""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic

import aiohttp

from kaito_ray.api.crd import OWNER_ANNOTATION
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import CRDS, LEASES, RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import workspace
from tests.operator import INSTANCE_TYPE, Scene, operator

PHASES = ("observe", "plan", "act", "tell")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answer(port: int, path: str) -> tuple[int, str]:
    """Return status and text; 0 while nobody listens."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()
    except aiohttp.ClientError:
        return 0, ""


async def says(scene: Scene, port: int, path: str, status: int, words: str) -> str:
    async def so() -> str:
        found, text = await answer(port, path)
        return text if found == status and words in text else ""

    return str(await scene.until(so))


async def holder(scene: Scene) -> str:
    lease = await scene.cluster.get(LEASES, "kaito-ray-operator", "default")
    return str(lease["spec"].get("holderIdentity")) if lease else ""


async def apply(scene: Scene, name: str) -> None:
    resource, inference = {"instanceType": INSTANCE_TYPE}, {"preset": {"name": "phi-4"}}
    await scene.cluster.create(WORKSPACES, workspace(metadata={"name": name}, resource=resource, inference=inference))
    await scene.exists(RAY_SERVICES, name)


def flags(name: str, port: int) -> tuple[str, ...]:
    return ("--provider", "azure", "--identity", name, "--health-port", str(port))


async def test_one_of_two_leads_and_the_other_takes_over_when_it_is_stopped(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    async with operator(tmp_path, *flags("first", ports[0])) as scene:
        await says(scene, ports[0], "/healthz", 200, "ok")
        await says(scene, ports[0], "/readyz", 200, "ok")
        await says(scene, ports[0], "/metrics", 200, "kaito_ray_leading 1.0")
        second = Scene(scene.server, KubernetesCluster(scene.server.kubeconfig), flags("second", ports[1]))
        await second.start()
        try:
            await says(second, ports[1], "/readyz", 200, "ok")
            await says(second, ports[1], "/metrics", 200, "kaito_ray_leading 0.0")
            await apply(scene, "one")
            told = await says(scene, ports[0], "/metrics", 200, 'kaito_ray_reconciles_total{outcome="done"}')
            for phase in PHASES:
                assert f'kaito_ray_reconcile_phase_seconds_count{{phase="{phase}"}}' in told
            assert await holder(scene) == "first"

            begun = monotonic()
            assert await scene.stop() == 0
            assert monotonic() - begun < 15, "a pod has 30 s to end"
            assert await holder(scene) in ("", "second")
            await says(second, ports[1], "/metrics", 200, "kaito_ray_leading 1.0")
            assert await holder(scene) == "second"
            await apply(scene, "two")
            assert len(await scene.cluster.list(RAY_SERVICES)) == 2
        finally:
            assert await second.stop() == 0
            await second.cluster.close()
        assert await holder(scene) == ""


async def test_while_the_workspaces_are_somebody_elses_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    port = free_port()
    async with operator(tmp_path, *flags("only", port), start=False) as scene:
        live = await scene.exists(CRDS, "workspaces.kaito.sh")
        del live["metadata"]["annotations"][OWNER_ANNOTATION]
        await scene.cluster.replace(CRDS, live)
        await scene.start()
        await scene.cluster.create(WORKSPACES, workspace())
        await says(scene, port, "/readyz", 503, "the CRD workspaces.kaito.sh is not kaito-ray's")
        await says(scene, port, "/healthz", 200, "ok")
        assert await scene.cluster.list(RAY_SERVICES) == []
