"""Admission over HTTP: kopf's webhook server, our certificate, and the configuration that tells the API server of it.

kopf could manage the configuration too. It would take it away whenever the operator stops, and create a mutating one
that nobody needs; ours stays, so that nothing is admitted unchecked while the operator restarts. It never judges a
deletion, nor any change of what is being deleted: an operator that is gone for good must not wedge a Workspace.
"""

from __future__ import annotations

import ipaddress
import logging
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import kopf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kaito_ray.api import names
from kaito_ray.api.admission import refusals, warnings
from kaito_ray.catalog import gpus
from kaito_ray.catalog.load import presets
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import VALIDATING_WEBHOOKS, Cluster, Manifest

log = logging.getLogger(__name__)

_VALID_FOR: Final = timedelta(days=3650)
"""The certificate is made anew at each start, and pinned by the configuration written then."""


def judge(new: Manifest, old: Manifest | None, settings: Settings) -> list[str]:
    """Return the warnings about a Workspace.

    Raises:
        kopf.AdmissionError: it is refused; the message has every reason.
    """
    if faults := refusals(new, old, presets=_preset_names(), data_allow=settings.data_allow):
        raise kopf.AdmissionError("; ".join(map(str, faults)), code=422)
    # On nodes of one's own an instance type is no more than a wish, and its Event says what became of it.
    clouds = settings.provider != "local" and settings.provisioner != "byo"
    return warnings(new, retired=_retired() if clouds else None)


@cache
def _preset_names() -> frozenset[str]:
    return frozenset(name for preset in presets().values() for name in preset.names)


@cache
def _retired() -> dict[str, str]:
    return {m.instance_type: m.substitute for m in gpus.machines() if m.retired and m.substitute}


class Webhook:
    """What `kopf` runs as its admission server: it serves, and publishes where."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        """Nothing listens before it is called."""
        self._cluster = cluster
        self._settings = settings

    async def __call__(self, fn: Any) -> AsyncIterator[Any]:
        """Serve admission requests with `fn`, and yield the client configuration as kopf's protocol asks."""
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = _certificate(Path(directory), self._names())
            server = kopf.WebhookServer(
                addr=self._settings.webhook_host,
                port=self._settings.webhook_port or None,
                certfile=str(certificate),
                pkeyfile=str(key),
                cadata=certificate.read_bytes(),
            )
            async with server:
                async for client in server(fn):
                    await publish(self._cluster, self._client(dict(client)))
                    yield client

    def _names(self) -> list[str]:
        if service := self._settings.webhook_service:
            namespace, _, name = service.partition("/")
            return [f"{name}.{namespace}.svc"]
        return [self._settings.webhook_host]

    def _client(self, client: dict[str, Any]) -> Manifest:
        if service := self._settings.webhook_service:
            namespace, _, name = service.partition("/")
            return {
                "service": {"namespace": namespace, "name": name, "path": "/workspace", "port": 443},
                "caBundle": client["caBundle"],
            }
        return {"url": f"{client['url'].rstrip('/')}/workspace", "caBundle": client["caBundle"]}


async def publish(cluster: Cluster, client: Manifest) -> None:
    """Tell the API server where admission is asked; written only if it differs."""
    wanted = configuration(client)
    live = await cluster.get(VALIDATING_WEBHOOKS, names.MANAGED_BY)
    if live is None:
        await cluster.create(VALIDATING_WEBHOOKS, wanted)
    elif live.get("webhooks") != wanted["webhooks"]:
        await cluster.replace(VALIDATING_WEBHOOKS, {**live, "webhooks": wanted["webhooks"]})
    log.info("admission webhook published")


def configuration(client: Manifest) -> Manifest:
    """Return the ValidatingWebhookConfiguration."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": names.MANAGED_BY, "labels": dict(names.MANAGED_LABELS)},
        "webhooks": [
            {
                "name": f"workspaces.{names.GROUP}",
                "admissionReviewVersions": ["v1"],
                "clientConfig": client,
                "failurePolicy": "Fail",
                "matchPolicy": "Equivalent",
                "sideEffects": "None",
                "timeoutSeconds": 10,
                "rules": [
                    {
                        "apiGroups": [names.GROUP],
                        "apiVersions": [names.VERSION],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [names.PLURAL],
                        "scope": "Namespaced",
                    }
                ],
                "matchConditions": [
                    {"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"}
                ],
            }
        ],
    }


def _certificate(directory: Path, subjects: list[str]) -> tuple[Path, Path]:
    """Write a self-signed certificate for these hosts and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.MANAGED_BY)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectAlternativeName([_subject(host) for host in subjects]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.crt", directory / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _subject(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
