"""One operator works at a time: whoever holds the Lease. The others watch, answer admission, and wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from kaito_ray.controller.settings import Settings
from kaito_ray.errors import ApiRefused, TransientError
from kaito_ray.kube.cluster import LEASES, Cluster, Manifest

log = logging.getLogger(__name__)

LEASE: Final = "kaito-ray-operator"
DURATION_S: Final = 30
"""After this long without renewal anybody may take the lease."""
RENEW_S: Final = 10.0
RETRY_S: Final = 3.0


@dataclass
class Candidate:
    """One operator that would lead."""

    cluster: Cluster
    settings: Settings
    _seen: tuple[str, str] = ("", "")
    """Holder and renewal time, as read last."""
    _seen_at: float = field(default_factory=monotonic)
    """When that pair was first read; a holder's clock is not trusted, only that it moves."""

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` whenever this operator leads, and cancel it when it leads no more; for ever."""
        while True:
            if not await self._hold():
                await asyncio.sleep(RETRY_S)
                continue
            log.info("leading", extra={"identity": self.settings.identity})
            working = asyncio.ensure_future(work())
            try:
                await self._renew(working)
            finally:
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
            log.warning("no longer leading", extra={"identity": self.settings.identity})

    async def release(self) -> None:
        """Let the next operator take over at once."""
        with suppress(TransientError, ApiRefused):
            lease = await self.cluster.get(LEASES, LEASE, self.settings.lease_namespace)
            if lease and lease["spec"].get("holderIdentity") == self.settings.identity:
                await self.cluster.replace(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    async def _renew(self, working: asyncio.Future[None]) -> None:
        """Return when the lease is lost, or could not be renewed for so long that somebody else may have it."""
        renewed, next_s = monotonic(), RENEW_S
        while monotonic() - renewed < DURATION_S - RENEW_S:
            await asyncio.wait({working}, timeout=next_s)
            if working.done():
                working.result()
                return
            next_s = RETRY_S  # one refused write must not cost a third of the lease
            if await self._hold():
                renewed, next_s = monotonic(), RENEW_S
            elif self._seen[0] not in ("", self.settings.identity):
                return

    async def _hold(self) -> bool:
        """Take or renew the lease; return whether this operator holds it now."""
        try:
            lease = await self.cluster.get(LEASES, LEASE, self.settings.lease_namespace)
            if lease is None:
                await self.cluster.create(LEASES, self._lease())
                return True
            spec = lease["spec"]
            seen = (spec.get("holderIdentity") or "", spec.get("renewTime") or "")
            if seen != self._seen:
                self._seen, self._seen_at = seen, monotonic()
            if seen[0] not in ("", self.settings.identity) and monotonic() - self._seen_at < DURATION_S:
                return False
            await self.cluster.replace(LEASES, {**lease, "spec": self._spec(spec)})
        except (TransientError, ApiRefused) as error:
            log.info("lease not held", extra={"error": str(error)})
            return False
        return True

    def _lease(self) -> Manifest:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": LEASE, "namespace": self.settings.lease_namespace},
            "spec": self._spec({}),
        }

    def _spec(self, old: Manifest) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        mine = old.get("holderIdentity") == self.settings.identity
        return {
            "holderIdentity": self.settings.identity,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": old["acquireTime"] if mine and "acquireTime" in old else now,
            "renewTime": now,
            "leaseTransitions": old.get("leaseTransitions", 0) + (0 if mine else 1),
        }
