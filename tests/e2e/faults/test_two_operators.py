"""Two operators at once: one leads. Killed, it is followed by the other; and one that is killed while it starts, by itself."""

from __future__ import annotations

import psutil
import pytest

from kaito_ray.kube.cluster import RAY_SERVICES, WORKSPACES
from kaito_ray.testing.builders import adapter, workspace
from tests.e2e.faults.operator import Operator
from tests.e2e.faults.stage import Stage
from tests.faulty_api import FaultyApi


async def test_the_second_takes_over_when_the_first_is_killed(stage: Stage) -> None:
    first = Operator(stage, stage.server.kubeconfig, "first")
    await stage.until(first.leads)
    second = Operator(stage, stage.server.kubeconfig, "second")
    try:
        await stage.apply(workspace())
        await stage.until(stage.ready)
        await stage.until(lambda: stage.published_by(first.process.pid))
        first.kill()
        await stage.apply(workspace(inference={"adapters": [adapter()]}))
        await stage.until(second.leads)
        await stage.until(lambda: stage.published_by(second.process.pid))
        await stage.until(stage.ready)
        service = await stage.client.get(RAY_SERVICES, "smol", "default")
        assert service is not None
        assert "style" in service["spec"]["serveConfigV2"]
        assert len((await stage.objects())["RayService"]) == 1
        await stage.client.delete(WORKSPACES, "smol", "default")
        await stage.until_nothing_is_left()
        await second.stop()
    finally:
        first.kill()
        second.kill()


async def test_one_that_only_waits_is_missed_by_nobody(stage: Stage) -> None:
    first = Operator(stage, stage.server.kubeconfig, "first")
    await stage.until(lambda: stage.published_by(first.process.pid))
    second = Operator(stage, stage.server.kubeconfig, "second")

    async def serves() -> bool:
        connections = psutil.Process(second.process.pid).net_connections()
        return any(c.status == psutil.CONN_LISTEN for c in connections)

    try:
        await stage.until(serves)
        second.kill()
        await stage.client.create(WORKSPACES, workspace())
        await stage.until(stage.ready)
        await stage.client.delete(WORKSPACES, "smol", "default")
        await stage.until_nothing_is_left()
        await first.stop()
    finally:
        first.kill()
        second.kill()


@pytest.mark.parametrize("writes", [1, 2, 3])
async def test_killed_at_its_first_writes_it_starts_again(stage: Stage, writes: int) -> None:
    """The lease, the webhook, and the first of a Workspace."""
    async with FaultyApi.before(stage.server) as api:
        victim = Operator(stage, api.kubeconfig)

        def count(_: object) -> None:
            if api.writes.total() >= writes:
                victim.kill()

        api.after_write = count
        await stage.until(lambda: stage.ended(victim.process))
        api.after_write = None
        successor = Operator(stage, api.kubeconfig)
        try:
            await stage.until(successor.leads)
            await stage.until(lambda: stage.published_by(successor.process.pid))
            await stage.apply(workspace())
            await stage.until(stage.ready)
            await stage.client.delete(WORKSPACES, "smol", "default")
            await stage.until_nothing_is_left()
            await successor.stop()
        finally:
            victim.kill()
            successor.kill()
