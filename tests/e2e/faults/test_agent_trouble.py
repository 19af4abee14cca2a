"""What nobody foresaw in the machine agent is told where people look, tried again, and forgotten when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kaito_ray.kube.cluster import EVENTS, WORKSPACES
from kaito_ray.testing.builders import workspace
from tests.e2e.faults.stage import Stage
from tests.e2e.faults.test_killed_between_writes import is_gone, is_ready, operate


@asynccontextmanager
async def broken(owner: Any, method: str, error: Exception) -> AsyncIterator[None]:
    def fails(*_: Any) -> Any:
        raise error

    setattr(owner, method, fails)
    yield
    delattr(owner, method)


async def heals(stage: Stage, owner: Any, method: str, error: Exception, kind: str) -> None:
    async with broken(owner, method, error):
        await stage.apply(workspace())

        async def told(stage: Stage) -> bool:
            found = await stage.workspace() or {}
            return str(error) in found.get("status", {}).get("reason", "")

        await operate(stage, told)
        events = [e for e in await stage.client.list(EVENTS) if str(error) in e["message"]]
        assert kind in {e["involvedObject"]["kind"] for e in events}
    await operate(stage, is_ready)
    await stage.client.delete(WORKSPACES, "smol", "default")
    await operate(stage, is_gone)


async def test_of_a_pod_that_cannot_be_started(stage: Stage) -> None:
    await heals(stage, stage.heads, "start", FileNotFoundError("no HAProxy: install it"), "Pod")


async def test_of_a_ray_service(stage: Stage) -> None:
    await heals(stage, stage.machine.ray, "connect", RuntimeError("no such thing"), "RayService")
