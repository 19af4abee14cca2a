"""Events: told once, counted after."""

import pytest

from kaito_ray.errors import ApiRefused, Conflict
from kaito_ray.kube import events
from kaito_ray.kube.cluster import EVENTS, WORKSPACES, Manifest
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.fake_cluster import FakeCluster


async def stored(cluster: FakeCluster) -> Manifest:
    return await cluster.create(WORKSPACES, workspace())


async def test_the_same_words_are_one_event_with_a_count() -> None:
    cluster = FakeCluster()
    about = await stored(cluster)
    for now in ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"):
        await events.emit(cluster, about, events.nodes_ready("1 nodes are ready"), now=now)
    (event,) = await cluster.list(EVENTS, "default")
    assert (event["count"], event["firstTimestamp"], event["lastTimestamp"]) == (
        2,
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:01:00Z",
    )
    assert event["involvedObject"]["uid"] == about["metadata"]["uid"]


async def test_other_words_are_another_event() -> None:
    cluster = FakeCluster()
    about = await stored(cluster)
    for note in (events.deleting(), events.model_ready("m", "http://x"), events.refused("DoesNotFit", "too big")):
        await events.emit(cluster, about, note, now="2026-01-01T00:00:00Z")
    assert {(e["type"], e["reason"]) for e in await cluster.list(EVENTS)} == {
        ("Normal", "Deleting"),
        ("Normal", "ModelReady"),
        ("Warning", "DoesNotFit"),
    }


async def test_an_event_that_may_not_be_written_does_not_stop_the_work() -> None:
    cluster = FakeCluster()
    about = await stored(cluster)
    cluster.fail_next(ApiRefused("forbidden"))
    await events.emit(cluster, about, events.deleting(), now="2026-01-01T00:00:00Z")
    assert await cluster.list(EVENTS) == []


async def test_an_event_that_met_a_conflict_is_told_by_the_next_pass() -> None:
    cluster = FakeCluster()
    about = await stored(cluster)
    cluster.fail_next(Conflict("somebody else wrote"))
    with pytest.raises(Conflict):
        await events.emit(cluster, about, events.deleting(), now="2026-01-01T00:00:00Z")
    await events.emit(cluster, about, events.deleting(), now="2026-01-01T00:00:00Z")
    assert len(await cluster.list(EVENTS, "default")) == 1


async def test_long_messages_are_cut_to_what_kubernetes_takes() -> None:
    cluster = FakeCluster()
    about = await stored(cluster)
    await events.emit(cluster, about, events.refused("DoesNotFit", "x" * 5000), now="2026-01-01T00:00:00Z")
    (event,) = await cluster.list(EVENTS)
    assert len(event["message"]) == 1024
