"""The agent's copy of the API server's objects, where answers and news cross; and clocks that are set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kaito_ray.kube.cluster import PODS, Change, Manifest
from kaito_ray.local.objects import Objects, due
from kaito_ray.testing.fake_cluster import FakeCluster


def pod(version: str) -> Manifest:
    return {"metadata": {"name": "p", "namespace": "default", "uid": "u", "resourceVersion": version}}


async def test_an_answer_that_comes_after_the_news_that_the_object_is_gone_brings_nothing_back() -> None:
    objects = Objects(FakeCluster(), (PODS,))
    objects._see(PODS, Change("ADDED", pod("1")))
    objects._see(PODS, Change("DELETED", pod("3")))
    objects._note(PODS, pod("2"))
    assert objects.all(PODS) == []


def written(seconds_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_what_is_due_comes_after_its_time() -> None:
    assert due(written(61), 60)
    assert not due(written(30), 60)


def test_nobody_waits_for_a_clock_that_was_set_back_to_come_round_again() -> None:
    assert due(written(-86400), 60)
