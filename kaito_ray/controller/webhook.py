"""Admission over HTTP: kopf's webhook server, our certificate, and the configuration that tells the API server of it.

kopf could manage the configuration too. It would take it away whenever the operator stops, and create a mutating one
that nobody needs; ours stays, so that nothing is admitted unchecked while the operator restarts. It never judges a
deletion, nor any change of what is being deleted: an operator that is gone for good must not wedge a Workspace.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import kopf

from kaito_ray.api import names
from kaito_ray.api.admission import warnings
from kaito_ray.catalog import gpus
from kaito_ray.controller.certificates import Certificate, kept, self_signed
from kaito_ray.controller.judgement import faults
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import ApiRefused, TransientError
from kaito_ray.kube.cluster import VALIDATING_WEBHOOKS, Cluster, Manifest

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0


def judge(new: Manifest, old: Manifest | None, settings: Settings) -> list[str]:
    """Return the warnings about a Workspace.

    Raises:
        kopf.AdmissionError: it is refused; the message has every reason.
    """
    if found := faults(new, old, settings):
        raise kopf.AdmissionError("; ".join(map(str, found)), code=422)
    # On nodes of one's own an instance type is no more than a wish, and its Event says what became of it.
    clouds = settings.provider != "local" and settings.provisioner != "byo"
    return warnings(new, retired=_retired() if clouds else None)


@cache
def _retired() -> dict[str, str]:
    return {m.instance_type: m.substitute for m in gpus.machines() if m.retired and m.substitute}


class Webhook:
    """What `kopf` runs as its admission server. Every operator serves; the one that leads says that it is asked."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        """Nothing listens before it is called."""
        self._cluster = cluster
        self._settings = settings
        self._where: Manifest = {}
        self._serving = asyncio.Event()

    async def publish(self) -> None:
        """Tell the API server to ask here, as soon as somebody answers: whoever leads calls it.

        An operator that does not lead may be gone tomorrow, and nobody would notice that it is still asked.
        """
        await self._serving.wait()
        await published(self._cluster, self._where)

    async def __call__(self, fn: Any) -> AsyncIterator[Any]:
        """Serve admission requests with `fn`, and yield the client configuration as kopf's protocol asks."""
        with tempfile.TemporaryDirectory() as directory:
            certificate = await self._certificate()
            paths = certificate.write(Path(directory))
            server = kopf.WebhookServer(
                addr=self._settings.webhook_host,
                port=self._settings.webhook_port or None,
                certfile=str(paths[0]),
                pkeyfile=str(paths[1]),
                cadata=certificate.certificate,
            )
            async with server:
                async for client in server(fn):
                    self._where = self._client(dict(client))
                    self._serving.set()
                    yield client

    async def _certificate(self) -> Certificate:
        """Return the certificate: behind a Service one that all replicas share, else one for this process."""
        if service := self._settings.webhook_service:
            namespace, _, name = service.partition("/")
            return await kept(self._cluster, namespace, f"{name}-cert", f"{name}.{namespace}.svc")
        return self_signed(self._settings.webhook_host)

    def _client(self, client: dict[str, Any]) -> Manifest:
        if service := self._settings.webhook_service:
            namespace, _, name = service.partition("/")
            return {
                "service": {"namespace": namespace, "name": name, "path": "/workspace", "port": 443},
                "caBundle": client["caBundle"],
            }
        return {"url": f"{client['url'].rstrip('/')}/workspace", "caBundle": client["caBundle"]}


async def published(
    cluster: Cluster, client: Manifest, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Publish, over and over until it succeeds: an error would end kopf's server, and with it the operator."""
    while True:
        try:
            return await publish(cluster, client)
        except TransientError as error:
            log.info("admission webhook not published yet: %s", error)
            await sleep(RETRY_S)


async def publish(cluster: Cluster, client: Manifest) -> None:
    """Tell the API server where admission is asked; written only if it differs.

    Behind a Service the configuration is the chart's, and goes with it; all that it lacks is the certificate.
    """
    wanted = configuration(client)
    try:
        live = await cluster.get(VALIDATING_WEBHOOKS, names.MANAGED_BY)
        if live is None:
            await cluster.create(VALIDATING_WEBHOOKS, wanted)
            return
        if "service" in client:
            ours = {**live, "webhooks": [_trusting(hook, client["caBundle"]) for hook in live.get("webhooks") or ()]}
        else:
            ours = {**live, "webhooks": wanted["webhooks"]}
        if ours != live:
            await cluster.replace(VALIDATING_WEBHOOKS, ours)
    except ApiRefused as error:  # with Roles only: Workspaces are judged by the schema alone
        log.warning("admission is not asked, for its configuration may not be written: %s", error)
        return
    log.info("admission webhook published")


def _trusting(hook: Manifest, authority: str) -> Manifest:
    return {**hook, "clientConfig": {**hook["clientConfig"], "caBundle": authority}}


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
