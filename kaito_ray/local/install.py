"""Waits for the API server, and brings the CRDs there: ours, KubeRay's and Karpenter's.

    python -m kaito_ray.local.install --home DIR

A process of its own, ended when it is done, so that its libraries do not stay in anybody's memory.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kaito_ray.api.crd import crd
from kaito_ray.errors import ApiUnavailable, Conflict, KaitoRayError
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import CRDS, Cluster, Manifest
from kaito_ray.local import crds
from kaito_ray.local.home import Home

_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.2


class NotInstalled(KaitoRayError):
    """The API server did not answer, or did not accept the CRDs, in time."""

    reason = "NotInstalled"


async def install(cluster: Cluster, manifests: Iterable[Manifest], *, timeout_s: float = _TIMEOUT_S) -> None:
    """Bring the CRDs to what is given, and wait until each is established.

    Raises:
        NotInstalled: that takes longer than `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            waiting = list(manifests)
            while waiting:
                waiting = [m for m in waiting if not await _established(cluster, m)]
                await asyncio.sleep(_POLL_S if waiting else 0)
    except TimeoutError:
        raise NotInstalled("the API server is not ready; see logs/apiserver.log in the home") from None


async def _established(cluster: Cluster, manifest: Manifest) -> bool:
    """Create or update one CRD; return whether it is established."""
    try:
        now = await cluster.get(CRDS, manifest["metadata"]["name"])
        if now is None:
            now = await cluster.create(CRDS, manifest)
        elif any(now["spec"].get(key) != value for key, value in manifest["spec"].items()):
            now["spec"] |= manifest["spec"]
            now = await cluster.replace(CRDS, now)
    except (ApiUnavailable, Conflict):
        return False
    conditions = now.get("status", {}).get("conditions", [])
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def _main(home: Home) -> None:
    for _ in range(int(_TIMEOUT_S / _POLL_S)):  # the API server writes it when it starts for the first time
        if home.kubeconfig.exists():
            break
        await asyncio.sleep(_POLL_S)
    cluster = KubernetesCluster(home.kubeconfig)
    try:
        await install(cluster, [crd(), *crds.manifests()])
    finally:
        await cluster.close()


def main() -> None:
    """Install and end."""
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.local.install", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="KAITO_RAY_HOME of the control plane")
    asyncio.run(_main(Home.at(parser.parse_args().home)))


if __name__ == "__main__":
    main()
