"""The token of a Ray cluster, as KubeRay keeps it in a Secret of the cluster's name."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from kaito_ray.kube.cluster import SECRETS, Cluster

_KEY: Final = "auth_token"


async def ray_token(cluster: Cluster, ray_cluster: str, namespace: str) -> str | None:
    """Return the token; None while there is none that can be read."""
    secret = await cluster.get(SECRETS, ray_cluster, namespace)
    try:
        return base64.b64decode(((secret or {}).get("data") or {})[_KEY]).decode()
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None
