"""Replicas that say what a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field

from kaito_ray.api.status import AdapterStatus, ReplicaStart, ReplicaStatus


@dataclass
class FakeReplicas:
    """See `controller.replicas.Replicas`; `told` maps endpoints to what the replica behind each says."""

    told: dict[str, tuple[AdapterStatus, ...]] = field(default_factory=dict)
    counts: ReplicaStatus | None = None
    """What Ray Serve says of their number."""
    starts: dict[str, ReplicaStart] = field(default_factory=dict)
    """The same of their starts."""
    keys: list[bytes | None] = field(default_factory=list)
    """The keys that they were asked with."""

    async def adapters(self, endpoint: str | None, key: bytes | None = None) -> tuple[AdapterStatus, ...] | None:
        """As `Replicas.adapters`."""
        self.keys.append(key)
        return self.told.get(endpoint or "")

    async def counted(self, dashboard: str, token: str) -> ReplicaStatus | None:  # noqa: ARG002 - the protocol's
        """As `Replicas.counted`."""
        return self.counts

    async def started(self, endpoint: str | None, key: bytes | None = None) -> ReplicaStart | None:
        """As `Replicas.started`."""
        self.keys.append(key)
        return self.starts.get(endpoint or "")
