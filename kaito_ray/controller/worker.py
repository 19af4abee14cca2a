"""The workers: take a Workspace from the queue, reconcile it, and say when to look again."""

from __future__ import annotations

import asyncio
import logging

from kaito_ray.controller.metrics import LEADING, RECONCILES
from kaito_ray.controller.models import Models
from kaito_ray.controller.node_claims import NodeClaims
from kaito_ray.controller.ownership import Ownership
from kaito_ray.controller.queue import WorkQueue
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.replicas import Replicas
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import Conflict, KaitoRayError, TransientError
from kaito_ray.kube.cluster import Cluster

log = logging.getLogger(__name__)

CONFLICT_S = 0.2
"""How soon to read again what somebody else has just written."""
NOT_OURS_S = 30.0
"""How soon to ask again whether Workspaces are ours to reconcile."""


async def work(
    cluster: Cluster,
    replicas: Replicas,
    models: Models,
    queue: WorkQueue,
    settings: Settings,
    *,
    ownership: Ownership,
) -> None:
    """Reconcile for ever, several Workspaces at a time."""
    claims = NodeClaims(cluster, queue.add)
    LEADING.set(1)
    try:
        async with asyncio.TaskGroup() as group:
            if settings.provisions:
                group.create_task(claims.follow())
            for _ in range(settings.workers):
                group.create_task(
                    _worker(cluster, replicas, models, queue, settings, ownership=ownership, claims=claims)
                )
    finally:
        LEADING.set(0)


async def _worker(
    cluster: Cluster,
    replicas: Replicas,
    models: Models,
    queue: WorkQueue,
    settings: Settings,
    *,
    ownership: Ownership,
    claims: NodeClaims,
) -> None:
    while True:
        key = await queue.get()
        failed, again_s, outcome = True, None, "done"
        try:
            if await ownership.problem():
                again_s = NOT_OURS_S
            else:
                again_s = await reconcile(cluster, replicas, key, settings, models=models, claims=claims)
            failed = False
        except Conflict as error:
            # Somebody else's write came between; that is news of the Workspace, and no reason to wait for long.
            failed, again_s, outcome = False, CONFLICT_S, "conflict"
            log.info("will be tried again: %s", error, extra={"workspace": key.name, "namespace": key.namespace})
        except TransientError as error:
            outcome = "transient"
            log.info("will be tried again: %s", error, extra={"workspace": key.name, "namespace": key.namespace})
        except KaitoRayError as error:
            outcome = "error"
            log.warning("will be tried again: %s", error, extra={"workspace": key.name, "namespace": key.namespace})
        except Exception:  # one Workspace that trips over a mistake of ours must not stop the others
            outcome = "bug"
            log.exception("reconciling failed", extra={"workspace": key.name, "namespace": key.namespace})
        finally:
            RECONCILES.labels(outcome).inc()
            queue.done(key, failed=failed, again_s=again_s)
