"""NodeClaims, read once for all Workspaces: to list them all in every pass costs an API server the square of their number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from kaito_ray.controller import warnings
from kaito_ray.controller.queue import Key
from kaito_ray.controller.references import Changes, owner_key
from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import NODE_CLAIMS, Change, Cluster, Manifest

log = logging.getLogger(__name__)

FRESH_S: Final = 5.0
"""How long one reading of the NodeClaims' Events serves every Workspace."""
_REFUSED_S: Final = 10.0
"""How soon to try again where claims may not be watched."""


@dataclass
class NodeClaims:
    """What the API server holds of them; whoever asks before all are known, or while they cannot be watched, asks it."""

    cluster: Cluster
    changed: Callable[[Key], None] = lambda _: None
    """Told whose claim came, changed or went."""
    _claims: dict[str, Manifest] = field(default_factory=dict)
    _of: dict[Key, set[str]] = field(default_factory=dict)
    _synced: bool = False
    _changes: Changes = field(default_factory=Changes)
    _warnings: list[Manifest] = field(default_factory=list)
    _warnings_at: float = -FRESH_S

    async def follow(self) -> None:
        """Keep them as they are, for ever."""
        while True:
            try:
                async for change in self.cluster.watch(NODE_CLAIMS):
                    self._learn(change)
            except KaitoRayError as error:
                log.warning("NodeClaims are not watched: %s", error)
            self._synced = False
            await asyncio.sleep(_REFUSED_S)

    async def of(self, key: Key, labels: Mapping[str, str]) -> list[Manifest]:
        """Return those of a Workspace that carry the labels.

        Raises:
            errors.ApiUnavailable: the API server was asked, and did not answer.
        """
        if not self._synced:
            return await self.cluster.list(NODE_CLAIMS, labels=labels)
        found = (self._claims[name] for name in sorted(self._of.get(key, ())))
        return [claim for claim in found if labels.items() <= claim["metadata"]["labels"].items()]

    async def warnings(self) -> list[Manifest]:
        """Return the Warnings about claims, of all Workspaces, read at most every `FRESH_S`.

        A claim that met no capacity is gone within a second, and its name is known to nobody: so all are read.
        """
        if monotonic() - self._warnings_at >= FRESH_S:
            self._warnings = await warnings.of_claims(self.cluster)
            self._warnings_at = monotonic()
        return self._warnings

    def _learn(self, change: Change) -> None:
        if change.type == "SYNCED":
            self._synced = True
            return
        claim, gone = change.object, change.type == "DELETED"
        name, key = claim["metadata"]["name"], owner_key(claim)
        if key is None:
            return
        if gone:
            self._claims.pop(name, None)
            self._of.get(key, set()).discard(name)
        else:
            self._claims[name] = claim
            self._of.setdefault(key, set()).add(name)
        if self._changes.matters(claim, gone=gone):
            self.changed(key)
