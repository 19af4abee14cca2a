"""Two operators on one kind would fight."""

from typing import Any

import pytest

from kaito_ray.api.crd import crd
from kaito_ray.controller.ownership import Ownership
from kaito_ray.controller.webhook import configuration
from kaito_ray.errors import ApiRefused
from kaito_ray.kube.cluster import CRDS, EVENTS, VALIDATING_WEBHOOKS
from kaito_ray.testing.builders import merged
from kaito_ray.testing.fake_cluster import FakeCluster

OURS = crd()
KAITOS = merged(OURS, {"metadata": {"annotations": {"ray.kaito.sh/crd-owner": None}}})
OUR_WEBHOOK = configuration({"url": "https://127.0.0.1:1"})
KAITOS_WEBHOOK = merged(OUR_WEBHOOK, {"metadata": {"name": "validation.workspace.kaito.sh"}})


@pytest.mark.parametrize(
    ("crds", "webhooks", "words"),
    [
        pytest.param([OURS], [OUR_WEBHOOK], None, id="all ours"),
        pytest.param([], [], None, id="nothing there yet"),
        pytest.param([KAITOS], [], "CRD workspaces.kaito.sh is not kaito-ray's", id="KAITO's CRD"),
        pytest.param([OURS], [KAITOS_WEBHOOK], "validation.workspace.kaito.sh", id="KAITO's webhook"),
    ],
)
async def test_problem(crds: list[Any], webhooks: list[Any], words: str | None) -> None:
    cluster = FakeCluster()
    for found in crds:
        await cluster.create(CRDS, found)
    for found in webhooks:
        await cluster.create(VALIDATING_WEBHOOKS, found)
    problem = await Ownership(cluster).problem()
    assert (problem is None) if words is None else (problem is not None and words in problem)


async def test_it_is_said_once() -> None:
    cluster = FakeCluster()
    await cluster.create(CRDS, KAITOS)
    ownership = Ownership(cluster)
    assert await ownership.problem() == await ownership.problem()
    (event,) = await cluster.list(EVENTS)
    assert (event["reason"], event["count"], event["involvedObject"]["kind"]) == (
        "NotReconciling",
        1,
        "CustomResourceDefinition",
    )


async def test_what_may_not_be_read_is_not_judged() -> None:
    cluster = FakeCluster()
    cluster.fail_next(ApiRefused("forbidden"))
    assert await Ownership(cluster).problem() is None
