"""The webhook's certificate is one for all replicas, and is made anew when it is of no more use."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kaito_ray.controller import certificates
from kaito_ray.controller.certificates import kept, self_signed
from kaito_ray.controller.webhook import configuration, publish
from kaito_ray.kube.cluster import SECRETS, VALIDATING_WEBHOOKS
from kaito_ray.testing.fake_cluster import FakeCluster
from tests.chart import NAMESPACE

NAME, HOST = "kaito-ray-webhook-cert", f"kaito-ray-webhook.{NAMESPACE}.svc"


async def test_replicas_share_it_also_when_they_start_together() -> None:
    cluster = FakeCluster()
    found = await asyncio.gather(*(kept(cluster, NAMESPACE, NAME, HOST) for _ in range(3)))
    assert len(set(found)) == 1
    assert [write.verb for write in cluster.writes] == ["create"]


async def test_it_is_kept_across_restarts() -> None:
    cluster = FakeCluster()
    first = await kept(cluster, NAMESPACE, NAME, HOST)
    assert await kept(cluster, NAMESPACE, NAME, HOST) == first


@pytest.mark.parametrize("broken", [{}, {"tls.crt": "eA==", "tls.key": "eA=="}, {"tls.crt": "?"}])
async def test_what_cannot_be_used_is_replaced(broken: dict[str, str]) -> None:
    cluster = FakeCluster()
    await kept(cluster, NAMESPACE, NAME, HOST)
    live = await cluster.get(SECRETS, NAME, NAMESPACE)
    assert live is not None
    await cluster.replace(SECRETS, {**live, "data": broken})
    made = await kept(cluster, NAMESPACE, NAME, HOST)
    assert await kept(cluster, NAMESPACE, NAME, HOST) == made


async def test_one_for_another_host_or_near_its_end_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    first = await kept(cluster, NAMESPACE, NAME, "elsewhere.svc")
    second = await kept(cluster, NAMESPACE, NAME, HOST)
    assert second != first
    monkeypatch.setattr(certificates, "RENEWED_BEFORE", certificates.VALID_FOR + timedelta(days=1))
    assert await kept(cluster, NAMESPACE, NAME, HOST) != second


def test_a_tls_server_takes_it_and_its_key_is_for_the_owner_alone(tmp_path: Path) -> None:
    certificate, key = self_signed("127.0.0.1").write(tmp_path)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    assert key.stat().st_mode & 0o777 == 0o600


async def test_behind_a_service_only_the_certificate_is_written_into_the_charts_configuration() -> None:
    cluster = FakeCluster()
    service = {"service": {"namespace": NAMESPACE, "name": "kaito-ray-webhook", "path": "/workspace", "port": 443}}
    charts = configuration(service)
    charts["webhooks"][0]["timeoutSeconds"] = 3
    await cluster.create(VALIDATING_WEBHOOKS, charts)
    for _ in range(2):
        await publish(cluster, {**service, "caBundle": "eA=="})
    (stored,) = await cluster.list(VALIDATING_WEBHOOKS)
    assert stored["webhooks"] == [{**charts["webhooks"][0], "clientConfig": {**service, "caBundle": "eA=="}}]
    assert [write.verb for write in cluster.writes] == ["create", "replace"]


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    read = x509.load_pem_x509_certificate(self_signed("127.0.0.1").certificate)
    assert read.not_valid_before_utc.year == 2000
