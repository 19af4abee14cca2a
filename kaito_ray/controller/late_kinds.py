"""Kinds whose CRD is installed after the operator started: KubeRay's or Karpenter's, on a cluster that is being set up.

kopf could notice them by itself, at a price: it lists every CRD of the cluster with its schema, which is megabytes for
KubeRay's three and hundreds for a large cluster. Asking whether a kind is served costs nothing, and is needed only
until all are there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import Resource

log = logging.getLogger(__name__)

PERIOD_S: Final = 10.0


async def appearance(
    kinds: Iterable[Resource],
    knows: Callable[[Resource], Awaitable[bool]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Resource:
    """Return the first kind that was unknown and is known now: the operator must start again to watch it.

    Waits for ever where every kind is known from the start.
    """
    missing: set[Resource] | None = None
    while True:
        try:
            unknown = {kind for kind in kinds if not await knows(kind)}
        except KaitoRayError as error:  # asked again below
            log.info("kinds not asked for: %s", error)
        else:
            if missing is None and unknown:
                names = sorted(f"{kind.plural}.{kind.group}" for kind in unknown)
                log.warning("kinds are missing; install their CRDs", extra={"kinds": names})
            missing = unknown if missing is None else missing
            if appeared := missing - unknown:
                return min(appeared, key=lambda kind: kind.plural)
            if not missing:
                await asyncio.Event().wait()
        await sleep(PERIOD_S)
