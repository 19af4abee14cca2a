"""One leader at a time, by the Lease. Time does not pass here: what is waited for is an event."""

import asyncio

import pytest

from kaito_ray.controller import leader
from kaito_ray.controller.leader import LEASE, Candidate
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import LEASES, Manifest
from kaito_ray.testing.fake_cluster import FakeCluster


def candidate(cluster: FakeCluster, name: str) -> Candidate:
    return Candidate(cluster, Settings(identity=name))


async def holder(cluster: FakeCluster) -> str:
    lease = await cluster.get(LEASES, LEASE, "default")
    assert lease is not None
    return str(lease["spec"]["holderIdentity"])


async def leading(who: Candidate) -> tuple[asyncio.Task[None], asyncio.Event]:
    """Let it lead; return its task, and an event that is set once its work has begun."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(who.lead(work))
    return task, begun


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_candidate_leads() -> None:
    cluster = FakeCluster()
    task, begun = await leading(candidate(cluster, "a"))
    await asyncio.wait_for(begun.wait(), 1)
    assert await holder(cluster) == "a"
    await stop(task)


async def test_a_second_candidate_waits() -> None:
    cluster = FakeCluster()
    first, begun = await leading(candidate(cluster, "a"))
    await begun.wait()
    second, never = await leading(candidate(cluster, "b"))
    await asyncio.sleep(0)
    assert (never.is_set(), await holder(cluster)) == (False, "a")
    await stop(second)
    await stop(first)


async def test_a_restart_of_the_same_pod_goes_on_at_once() -> None:
    cluster = FakeCluster()
    crashed, begun = await leading(candidate(cluster, "a"))
    await begun.wait()
    await stop(crashed)
    again, begun = await leading(candidate(cluster, "a"))
    await asyncio.wait_for(begun.wait(), 1)
    await stop(again)


async def test_a_lease_that_is_let_go_is_taken_at_once() -> None:
    cluster = FakeCluster()
    first = candidate(cluster, "a")
    task, begun = await leading(first)
    await begun.wait()
    await stop(task)
    await first.release()
    assert await holder(cluster) == ""
    task, begun = await leading(candidate(cluster, "b"))
    await asyncio.wait_for(begun.wait(), 1)
    lease: Manifest | None = await cluster.get(LEASES, LEASE, "default")
    assert lease is not None
    assert lease["spec"]["leaseTransitions"] == 2
    await stop(task)


async def test_somebody_elses_lease_is_not_let_go() -> None:
    cluster = FakeCluster()
    task, begun = await leading(candidate(cluster, "a"))
    await begun.wait()
    await candidate(cluster, "b").release()
    assert await holder(cluster) == "a"
    await stop(task)


async def test_an_api_server_that_is_away_does_not_end_the_candidate() -> None:
    cluster = FakeCluster()
    cluster.fail_next(ApiUnavailable("gone"))
    task, begun = await leading(candidate(cluster, "a"))
    await asyncio.sleep(0)
    assert (task.done(), begun.is_set()) == (False, False)
    await stop(task)


async def test_a_renewal_that_was_refused_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    waits: list[float] = []

    async def wait(tasks: set[asyncio.Future[None]], timeout: float) -> None:
        waits.append(timeout)
        await asyncio.sleep(0)
        if len(waits) == 2:
            cluster.fail_next(ApiUnavailable("gone"))
        if len(waits) == 4:
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)

    monkeypatch.setattr(leader.asyncio, "wait", wait)
    task, _ = await leading(candidate(cluster, "a"))
    await asyncio.gather(task, return_exceptions=True)
    assert waits == [leader.RENEW_S, leader.RENEW_S, leader.RETRY_S, leader.RENEW_S]
