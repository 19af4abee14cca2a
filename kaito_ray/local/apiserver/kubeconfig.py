"""The kubeconfig of this home, with the token that it shares with the server."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any, Final

import yaml

CONTEXT: Final = "kaito-ray"


def token_of(path: Path) -> str:
    """Return the token of an existing kubeconfig, so that a restart does not log anybody out; else a new one."""
    try:
        loaded: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(loaded["users"][0]["user"]["token"])
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return secrets.token_urlsafe(32)


def write(path: Path, *, port: int, authority: Path, token: str) -> None:
    """Write the kubeconfig, readable by its owner alone, in one step."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}],
    }
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(config, file, sort_keys=False)
    fresh.replace(path)
