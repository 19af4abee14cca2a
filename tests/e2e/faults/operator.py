"""The operator as a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from kaito_ray.kube.cluster import LEASES
from tests.e2e.faults.stage import Stage

LEASE_S = 3
"""A lease that may be taken over within the patience of a test."""
PROGRAM = f"""
import sys
from kaito_ray.controller import leader, main
leader.DURATION_S, leader.RENEW_S, leader.RETRY_S = {LEASE_S}, {LEASE_S} / 3, 0.3
main.main(sys.argv[1:])
"""


class Operator:
    """One process."""

    def __init__(self, stage: Stage, kubeconfig: Path, identity: str = "a") -> None:
        self._stage = stage
        self.identity = identity
        command = [sys.executable, "-c", PROGRAM, "--kubeconfig", str(kubeconfig), "--provider", "local"]
        with (stage.server.home / f"operator-{identity}.log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--identity", identity], stdout=log, stderr=log)

    async def leads(self) -> bool:
        lease = await self._stage.client.get(LEASES, "kaito-ray-operator", "default")
        return lease is not None and lease["spec"]["holderIdentity"] == self.identity

    def kill(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    async def stop(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 30) == 0
