"""The fake cluster does to objects what an API server does."""

import pytest

from kaito_ray.errors import ApiUnavailable, Conflict
from kaito_ray.kube.cluster import RAY_SERVICES, SECRETS, WORKSPACES
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.fake_cluster import FakeCluster


async def test_writing_over_a_changed_object_is_a_conflict() -> None:
    cluster = FakeCluster()
    first = await cluster.create(WORKSPACES, workspace())
    await cluster.replace(WORKSPACES, first)
    with pytest.raises(Conflict):
        await cluster.replace(WORKSPACES, first)


async def test_generation_counts_specs_and_not_status() -> None:
    cluster = FakeCluster()
    one = await cluster.create(WORKSPACES, workspace())
    one = await cluster.replace_status(WORKSPACES, {**one, "status": {"state": "Ready"}})
    assert one["metadata"]["generation"] == 1
    two = await cluster.replace(WORKSPACES, {**one, "inference": {"preset": {"name": "phi-4"}}, "status": {}})
    assert (two["metadata"]["generation"], two["status"]) == (2, {"state": "Ready"})


async def test_a_finalizer_holds_a_deletion_and_children_go_after() -> None:
    cluster = FakeCluster()
    parent = await cluster.create(WORKSPACES, workspace(metadata={"finalizers": ["f"]}))
    owner = {"uid": parent["metadata"]["uid"]}
    await cluster.create(SECRETS, {"metadata": {"name": "s", "namespace": "default", "ownerReferences": [owner]}})
    await cluster.delete(WORKSPACES, "smol", "default")
    held = await cluster.get(WORKSPACES, "smol", "default")
    assert held is not None
    assert "deletionTimestamp" in held["metadata"]
    held["metadata"]["finalizers"] = []
    await cluster.replace(WORKSPACES, held)
    assert await cluster.get(WORKSPACES, "smol", "default") is None
    assert await cluster.get(SECRETS, "s", "default") is None


async def test_a_watch_tells_what_is_then_synced_then_changes() -> None:
    cluster = FakeCluster()
    await cluster.create(WORKSPACES, workspace())
    changes = cluster.watch(WORKSPACES)
    assert [(await anext(changes)).type, (await anext(changes)).type] == ["ADDED", "SYNCED"]
    await cluster.create(RAY_SERVICES, {"metadata": {"name": "other", "namespace": "default"}})
    await cluster.delete(WORKSPACES, "smol", "default")
    assert (await anext(changes)).type == "DELETED"
    await changes.aclose()


async def test_failures_are_asked_for_in_one_line() -> None:
    cluster = FakeCluster()
    cluster.fail_next(ApiUnavailable("gone"))
    with pytest.raises(ApiUnavailable):
        await cluster.get(SECRETS, "s", "default")
    assert await cluster.get(SECRETS, "s", "default") is None
