"""The operator's process: kopf watches and answers admission, the leader's workers reconcile."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

import kopf

from kaito_ray import __version__
from kaito_ray.controller.handlers import Watches, kopf_settings, needed_kinds, on_stop, registry
from kaito_ray.controller.health import serve
from kaito_ray.controller.late_kinds import appearance
from kaito_ray.controller.leader import Candidate
from kaito_ray.controller.models import FetchedModels, fetch_with
from kaito_ray.controller.ownership import Ownership
from kaito_ray.controller.queue import WorkQueue
from kaito_ray.controller.replicas import HttpReplicas
from kaito_ray.controller.settings import Settings, from_arguments
from kaito_ray.controller.webhook import Webhook
from kaito_ray.controller.worker import work
from kaito_ray.kube.client import KubernetesCluster

log = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """Run until the process is told to stop (SIGTERM, SIGINT), or must be started again to watch a new kind."""
    cluster = KubernetesCluster(settings.kubeconfig)
    queue, ownership = WorkQueue(), Ownership(cluster)
    models = FetchedModels(queue.add, fetch=fetch_with(settings.hub_endpoint, settings.models_dir))
    candidate = Candidate(cluster, settings)
    webhook = Webhook(cluster, settings)

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(webhook.publish())
            group.create_task(work(cluster, HttpReplicas(), models, queue, settings, ownership=ownership))

    leading = asyncio.ensure_future(candidate.lead(lead))
    handlers = registry(Watches(queue), settings)
    on_stop(leading, handlers)
    watching = asyncio.ensure_future(
        kopf.operator(
            registry=handlers,
            settings=kopf_settings(webhook),
            standalone=True,
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        )
    )
    health = await serve(settings.health_port, lambda: ownership.known) if settings.health_port else None
    appearing = asyncio.ensure_future(appearance(needed_kinds(settings), cluster.knows))
    tasks = {watching, leading, appearing}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()
        if appearing in done:
            log.warning("%s is installed now; starting again to watch it", appearing.result().plural)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await candidate.release()
        if health is not None:
            await health.cleanup()
        await cluster.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, set up logging, and run."""
    settings = from_arguments(sys.argv[1:] if arguments is None else arguments)
    kopf.configure(log_format=kopf.LogFormat.FULL if sys.stderr.isatty() else kopf.LogFormat.JSON)
    for noisy in ("kopf", "aiohttp.access", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # A refused manifest is an answer to its author, not an error of the operator.
    logging.getLogger("kopf.objects").setLevel(logging.CRITICAL)
    log.info("kaito-ray operator %s", __version__, extra={"provider": settings.provider})
    asyncio.run(run(settings))
