"""Replicas that say what a test wants."""

from __future__ import annotations

from dataclasses import dataclass, field

from kaito_ray.api.status import AdapterStatus


@dataclass
class FakeReplicas:
    """See `controller.replicas.Replicas`; `told` maps endpoints to what the replica behind each says."""

    told: dict[str, tuple[AdapterStatus, ...]] = field(default_factory=dict)

    async def adapters(self, endpoint: str | None) -> tuple[AdapterStatus, ...] | None:
        """As `Replicas.adapters`."""
        return self.told.get(endpoint or "")
