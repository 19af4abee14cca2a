"""API keys, from the mounted Secret: one file for each, its name the key's name, its content the key.

A Secret's files change while the pod runs, so they are read again and again; that is how keys are rotated.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_HASH: Final = "sha256"


class Keyring:
    """Whose key is it? The keys themselves are not kept."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` are the keys by name; an empty one opens nothing."""
        # Looked up by an HMAC under a secret of this process: how long that takes says nothing about a key, for nobody
        # outside knows which HMACs are alike; and a thousand keys cost what one does.
        self._secret = secrets.token_bytes(32)
        self._names = {self._mac(key): name for name, key in keys.items() if key}

    def name_of(self, presented: bytes) -> str | None:
        """Return the name of that key; None where it is nobody's."""
        return self._names.get(self._mac(presented))

    def _mac(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, _HASH)


def read(folder: Path) -> dict[str, bytes]:
    """Return the keys in a mounted Secret by name, without white space around them; none where it is not there."""
    if not folder.is_dir():
        return {}
    # A kubelet keeps its own entries, `..data` and the like, beside the files.
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith("..")]
    return {path.name: path.read_bytes().strip() for path in files}
