"""A whole control plane as `kaito-ray up` runs it, supervisor and all, but for Ray: its heads only listen.

python -m tests.e2e.faults.plane HOME            the supervisor
python -m tests.e2e.faults.plane HOME machine    the machine agent, with Ray's REST APIs played in its own memory
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kaito_ray.kube.client import KubernetesCluster
from kaito_ray.local import processes, ray_head, supervisor, up
from kaito_ray.local.home import Home, read_json
from kaito_ray.local.processes import CLUSTERS_MARKER, PART_MARKER, Process
from kaito_ray.local.ray_head import RayHead
from tests.e2e.faults.stage import FakeMachine, Person

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(3600)"


class ListeningHeads:
    """Real processes with everything of a Ray head but Ray: record, token, marker, log and a port."""

    running = staticmethod(ray_head.running)
    exit_code = staticmethod(ray_head.exit_code)
    stop = staticmethod(ray_head.stop)
    forget = staticmethod(ray_head.forget)

    @staticmethod
    def start(head: RayHead, command: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
        """Start a listener where `command` would start Ray."""
        return ray_head.start(head, [sys.executable, "-S", "-c", LISTEN, str(head.ports.gcs)], env, log)


@dataclass
class Plane(Person):
    """A control plane, and a person who uses it."""

    home: Home

    @classmethod
    @asynccontextmanager
    async def at(cls, root: Path) -> AsyncIterator[Plane]:
        """Run one for the length of a `with` block; afterwards no process of it is left."""
        home = Home.at(root)
        process = subprocess.Popen([sys.executable, "-m", __name__, str(root)])
        plane = cls(KubernetesCluster(home.kubeconfig), home)

        async def up_and_running() -> bool:
            return up.state(root).ready

        try:
            await plane.until(up_and_running)
            yield plane
        finally:
            await plane.client.close()
            await asyncio.to_thread(up.down, root)
            process.wait()
            assert plane.processes() == []

    def processes(self) -> list[Process]:
        """Every process of it, Ray's too."""
        return [
            *processes.marked(PART_MARKER, str(self.home.root)),
            *processes.marked(CLUSTERS_MARKER, str(self.home.ray)),
        ]

    async def victim(self, name: str) -> Process:
        """Return one part of the control plane, or its only Ray head, as soon as it runs."""

        async def found() -> Process | None:
            if name == "head":
                (record,) = [read_json(path) for path in self.home.ray.glob("*/head.json")] or [{}]
                pid = record.get("pid", 0)
            else:
                pid = next(part.pid for part in up.state(self.home.root).parts if part.name == name) or 0
            return processes.identify(pid)

        process: Process = await self.until(found)
        return process

    async def kill(self, name: str) -> None:
        """`kill -9`."""
        processes.send(await self.victim(name), signal.SIGKILL)

    async def until_nothing_is_left(self) -> None:
        """Wait until no object, process, file or session directory of any Workspace is left."""
        await self.until(self.nothing_is_left)

        async def tidy() -> bool:
            heads = processes.marked(CLUSTERS_MARKER, str(self.home.ray))
            return not heads and not list(self.home.ray.iterdir()) and not list(self.home.pods.iterdir())

        await self.until(tidy)


def main(root: Path, *, machine: bool) -> None:
    """Be the supervisor, or its machine agent."""
    home = Home.at(root)
    if machine:
        agent = FakeMachine(home, KubernetesCluster(home.kubeconfig), heads=ListeningHeads())
        asyncio.run(agent.run())
    ours = (sys.executable, "-m", __spec__.name, str(root), "machine")
    parts = [replace(p, command=ours) if p.name == "machine" else p for p in supervisor.parts(home)]
    supervisor.Supervisor(home, parts).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), machine=sys.argv[2:] == ["machine"])
