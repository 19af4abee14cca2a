"""Keys follow the Secret while the replica serves, about a second after its files change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from deployments.gate import keys
from deployments.gate.gate import Gate

logger = logging.getLogger("ray.serve")

_PERIOD_S: Final = 1.0
EMPTY_LOOKS: Final = 15
"""So many looks in a row must find no key at all before all are revoked. Where `apiKeysSecret` is removed, the files go at
once, and the word that none is needed comes a moment later by another way; nobody must be refused in between."""


class KeyWatch:
    """Gives the gate what the folder holds."""

    def __init__(self, gate: Gate, folder: Path, *, read: Callable[[Path], dict[str, bytes]] = keys.read) -> None:
        self._gate = gate
        self._folder = folder
        self._read = read
        self._known: dict[str, bytes] = {}
        self._empty_looks = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look every second from now on."""
        self._task = self._task or asyncio.create_task(self._follow(), name="API keys")

    async def look(self) -> None:
        """Read the keys now; where that fails, those of the last look stay."""
        try:
            found = await asyncio.to_thread(self._read, self._folder)
        except OSError as error:  # A file went between being listed and being read; the next look sees the whole.
            logger.warning("API keys cannot be read", extra={"error": str(error)})
            return
        self._empty_looks = 0 if found else self._empty_looks + 1
        if found == self._known or (not found and self._empty_looks < EMPTY_LOOKS):
            return
        self._known = found
        self._gate.accept(found)
        logger.info("API keys changed", extra={"names": sorted(found)})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD_S)
            await self.look()
