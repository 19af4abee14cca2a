"""Ports of a local Ray cluster: one block of consecutive numbers each, remembered, never handed out twice.

Ray picks well-known defaults for most of its listeners, so two clusters on one host collide and the loser dies with a
misleading message. Every listener gets its number from here instead. Blocks lie below the range from which the kernel
takes ports for outgoing connections, so that nobody's client can grab one between the choice and Ray's start.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

from kaito_ray.errors import KaitoRayError

LOOPBACK: Final = "127.0.0.1"
BLOCK: Final = 160
_FIRST, _LAST = 20000, 32000
_REPLICAS = 32
_WORKERS = 64
_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class NoFreePorts(KaitoRayError):
    """Every block of ports is taken."""

    reason = "NoFreePorts"


@dataclass(frozen=True)
class RayPorts:
    """The ports of one cluster, all derived from the first of its block."""

    base: int

    def all(self) -> range:
        """Return every port of the block."""
        return range(self.base, self.base + BLOCK)

    @property
    def gcs(self) -> int:
        """Ray's control store."""
        return self.base

    @property
    def dashboard(self) -> int:
        """Dashboard, Jobs and Serve REST."""
        return self.base + 1

    @property
    def client(self) -> int:
        """Ray client."""
        return self.base + 2

    @property
    def metrics(self) -> int:
        """Ray's Prometheus metrics."""
        return self.base + 3

    @property
    def serve(self) -> int:
        """HAProxy: where requests arrive."""
        return self.base + 4

    @property
    def agent_http(self) -> int:
        """Dashboard agent."""
        return self.base + 5

    @property
    def agent_grpc(self) -> int:
        """Dashboard agent, gRPC."""
        return self.base + 6

    @property
    def node_manager(self) -> int:
        """Raylet."""
        return self.base + 7

    @property
    def object_manager(self) -> int:
        """Raylet, objects."""
        return self.base + 8

    @property
    def runtime_env_agent(self) -> int:
        """Runtime environment agent."""
        return self.base + 9

    @property
    def haproxy_metrics(self) -> int:
        """HAProxy's Prometheus metrics."""
        return self.base + 10

    @property
    def haproxy_stats(self) -> int:
        """HAProxy's statistics page."""
        return self.base + 11

    @property
    def proxy_http(self) -> int:
        """Serve's fallback proxy behind HAProxy."""
        return self.base + 12

    @property
    def proxy_grpc(self) -> int:
        """The same, gRPC."""
        return self.base + 13

    @property
    def replicas_http(self) -> range:
        """Replicas, behind HAProxy."""
        return range(self.base + 16, self.base + 16 + _REPLICAS)

    @property
    def replicas_grpc(self) -> range:
        """The same, gRPC."""
        return range(self.base + 16 + _REPLICAS, self.base + 16 + 2 * _REPLICAS)

    @property
    def workers(self) -> range:
        """Ray's worker processes."""
        return range(self.base + 16 + 2 * _REPLICAS, self.base + 16 + 2 * _REPLICAS + _WORKERS)

    def by_container_port(self) -> dict[str, int]:
        """Return the ports that a pod declares, by KubeRay's names."""
        return {
            "gcs-server": self.gcs,
            "dashboard": self.dashboard,
            "client": self.client,
            "metrics": self.metrics,
            "serve": self.serve,
        }


def listening() -> frozenset[int]:
    """Return every TCP port that somebody on this machine listens on, as the kernel tells it.

    Trying to bind would say less: it also fails for connections that a server has just left behind.
    """
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except FileNotFoundError:  # a machine without IPv6
            continue
        found |= {
            int(local.rpartition(":")[2], 16) for _, local, _, state, *_ in map(str.split, lines) if state == _LISTEN
        }
    return frozenset(found)


def choose(owner: str, taken: Collection[int], *, busy: Collection[int] | None = None) -> RayPorts:
    """Return a block whose base is not in `taken` and of which no port is in `busy`: by default, what is listened on.

    The search starts at a place that depends on `owner`, so that two control planes which choose at the same moment
    do not choose the same block.

    Raises:
        NoFreePorts: there is none.
    """
    bases = range(_FIRST, _LAST - BLOCK + 1, BLOCK)
    start = crc32(owner.encode()) % len(bases)
    busy = listening() if busy is None else busy
    for base in (*bases[start:], *bases[:start]):
        if base not in taken and not any(base <= port < base + BLOCK for port in busy):
            return RayPorts(base)
    raise NoFreePorts(
        f"no {BLOCK} consecutive free TCP ports between {_FIRST} and {_LAST}: stop what listens there "
        "(`ss -ltnp` shows it), or delete a Workspace"
    )
