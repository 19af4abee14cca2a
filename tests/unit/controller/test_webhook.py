"""The admission webhook: what it judges, and what the API server is told of it."""

import kopf
import pytest

from kaito_ray.controller.settings import Settings
from kaito_ray.controller.webhook import configuration, judge, publish, published
from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import VALIDATING_WEBHOOKS
from kaito_ray.testing.builders import TUNING, merged, workspace
from kaito_ray.testing.fake_cluster import FakeCluster

CLIENT = {"url": "https://127.0.0.1:1/workspace", "caBundle": "eA=="}
AZURE, LOCAL = Settings(provider="azure"), Settings(provider="local")


def test_it_fails_closed_and_never_judges_a_deletion() -> None:
    (webhook,) = configuration(CLIENT)["webhooks"]
    assert webhook["failurePolicy"] == "Fail"
    assert webhook["rules"][0]["operations"] == ["CREATE", "UPDATE"]
    assert webhook["matchConditions"][0]["expression"] == "!has(object.metadata.deletionTimestamp)"


async def test_it_is_published_in_spite_of_an_api_server_that_is_not_well() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    cluster = FakeCluster()
    cluster.fail_next(ApiUnavailable("no"), ApiUnavailable("no"))
    await published(cluster, CLIENT, sleep=sleep)
    assert waits == [1.0, 1.0]
    assert len(await cluster.list(VALIDATING_WEBHOOKS)) == 1


async def test_it_is_published_once_and_again_when_it_moves() -> None:
    cluster = FakeCluster()
    for client in (CLIENT, CLIENT, {**CLIENT, "url": "https://127.0.0.1:2/workspace"}):
        await publish(cluster, client)
    assert [w.verb for w in cluster.writes] == ["create", "replace"]
    (stored,) = await cluster.list(VALIDATING_WEBHOOKS)
    assert stored["webhooks"][0]["clientConfig"]["url"].endswith(":2/workspace")


def test_a_refusal_has_every_reason() -> None:
    bad = workspace(metadata={"name": "A"}, inference={"preset": {"name": "smollm3"}})
    with pytest.raises(kopf.AdmissionError, match=r"metadata\.name: .*; inference\.preset\.name: .*") as refused:
        judge(bad, None, LOCAL)
    assert refused.value.code == 422


def test_a_retired_type_is_a_warning_where_types_are_a_clouds() -> None:
    old = workspace(resource={"instanceType": "Standard_NC6s_v3"})
    (warning,) = judge(old, None, AZURE)
    assert "was retired" in warning
    assert judge(old, None, LOCAL) == []


def test_every_alias_of_a_preset_is_known() -> None:
    assert judge(workspace(inference={"preset": {"name": "HuggingFaceTB/SmolLM2-135M-Instruct"}}), None, LOCAL) == []


def test_the_operators_setting_for_private_data_holds_at_admission() -> None:
    tuning = merged(TUNING, {"input": {"urls": ["http://127.0.0.1:8000/data.parquet"]}})
    manifest = workspace(inference=None, tuning=tuning)
    with pytest.raises(kopf.AdmissionError, match="--data-allow"):
        judge(manifest, None, LOCAL)
    assert judge(manifest, None, Settings(provider="local", data_allow=("127.0.0.1",))) == []
