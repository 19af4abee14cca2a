"""The machine agent: KubeRay, kubelet, kube-proxy and Karpenter for this one machine, as one small process.

    python -m kaito_ray.local.machine --home DIR

It speaks to the API server as any client does. It imports no Ray: that is done through Ray's command line and REST.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import httpx

from kaito_ray.errors import TransientError
from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.kube.cluster import (
    CONFIG_MAPS,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RAY_CLUSTERS,
    RAY_JOBS,
    RAY_SERVICES,
    SECRETS,
    SERVICES,
    Cluster,
)
from kaito_ray.local import claims, ray_head, services
from kaito_ray.local.home import Home
from kaito_ray.local.karpenter import Karpenter, node_name
from kaito_ray.local.kubelet import Kubelet
from kaito_ray.local.kuberay import KubeRay
from kaito_ray.local.objects import Objects, due
from kaito_ray.local.ports import LOOPBACK
from kaito_ray.local.ray_head import RayHead
from kaito_ray.local.ray_rest import Ray, RayRest

log = logging.getLogger(__name__)

FOLLOWED = (
    RAY_SERVICES, RAY_JOBS, RAY_CLUSTERS, PODS, SERVICES, SECRETS, CONFIG_MAPS, NODES, NODE_POOLS, NODE_CLAIMS,
    PERSISTENT_VOLUME_CLAIMS,
)  # fmt: skip
_PERIOD_S = 2.0
"""How often to look at Ray, which tells us nothing by itself; KubeRay's own period."""
_STARTING_PERIOD_S = 0.25
"""The same, while a Ray cluster is young: each look that comes late is part of somebody's cold start."""
_YOUNG_S = 180.0
_SETTLE_S = 0.1
"""How long to wait after news for more of it."""
_PROBE_TIMEOUT_S = 2.0


class LocalRay:
    """The local Ray clusters, over HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def connect(self, port: int, token: str) -> Ray:
        """As `RayClusters.connect`."""
        return RayRest(self._client, port, token)

    async def serving(self, port: int) -> bool:
        """As `RayClusters.serving`."""
        return await self._answers(f"http://{LOOPBACK}:{port}/-/healthz")

    async def ready(self, head: RayHead) -> bool:
        """Return whether raylet and control store are well: KubeRay's readiness probe."""
        return await self._answers(f"http://{LOOPBACK}:{head.ports.agent_http}/api/healthz")

    async def _answers(self, url: str) -> bool:
        try:
            return (await self._client.get(url, timeout=_PROBE_TIMEOUT_S)).is_success
        except httpx.HTTPError:
            return False


async def run(home: Home, cluster: Cluster) -> None:
    """Follow the API server and keep this machine in line with it, until cancelled."""
    objects = Objects(cluster, FOLLOWED)
    node = node_name()
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.TaskGroup() as tasks:
        ray = LocalRay(client)
        kuberay = KubeRay(home, objects, ray, node, machine_cpus=len(os.sched_getaffinity(0)))
        kubelet = Kubelet(home, objects, node, ray.ready, ray_head)
        karpenter = Karpenter(objects, node, home.root)
        tasks.create_task(objects.follow(), name="watches")
        for name, reconcile in (
            ("kuberay", kuberay.reconcile),
            ("kubelet", kubelet.reconcile),
            ("claims", lambda: claims.bind(objects, home.claims)),
            ("services", lambda: services.publish(objects)),
            ("karpenter", karpenter.reconcile),
        ):
            tasks.create_task(_repeat(name, objects, reconcile), name=name)


async def _repeat(name: str, objects: Objects, reconcile: Callable[[], Awaitable[None]]) -> None:
    """Reconcile at each news and every period. No error ends the loop: the next pass sees the world afresh."""
    news = objects.listener()
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), _period_s(objects))
        await asyncio.sleep(_SETTLE_S)
        news.clear()
        if not objects.synced:
            continue
        try:
            await reconcile()
        except TransientError as error:
            log.info("%s will be tried again: %s", name, error)
        except Exception:
            log.exception("%s: a pass failed; the next one follows", name)


def _period_s(objects: Objects) -> float:
    made = [cluster["metadata"]["creationTimestamp"] for cluster in objects.all(RAY_CLUSTERS)]
    return _PERIOD_S if all(due(then, _YOUNG_S) for then in made) else _STARTING_PERIOD_S


async def _main(home: Home) -> None:
    # Ray opens many files, and inherits this limit.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cluster = KubernetesCluster(home.kubeconfig)
    task = asyncio.create_task(run(home, cluster))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; Ray clusters go on and are found again at the next start")
    finally:
        await cluster.close()


def main() -> None:
    """Run the agent until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m kaito_ray.local.machine", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="KAITO_RAY_HOME of the control plane")
    home = Home.at(parser.parse_args().home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("httpx", "kaito_ray.kube"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.chdir(home.root)
    asyncio.run(_main(home))


if __name__ == "__main__":
    main()
