"""A Ray cluster and its processes, without either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaito_ray.local.processes import Process
from kaito_ray.local.ray_head import PortsTaken, RayHead
from kaito_ray.local.ray_rest import RayRefused, RayUnavailable
from tests.unit.local.manifests import applications


@dataclass
class FakeRay:
    """Serve and Jobs of one cluster: an application that was put runs when `settle` says so."""

    token: str = ""
    configs: list[Mapping[str, Any]] = field(default_factory=list)
    status: str = "DEPLOYING"
    details: dict[str, Any] = field(default_factory=lambda: {"applications": {}})
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    refuse: str | None = None
    down: bool = False

    def settle(self, status: str = "RUNNING") -> None:
        self.status = status
        if self.details["applications"]:
            self.details = applications(status)

    async def applications(self) -> dict[str, Any]:
        if self.down:
            raise RayUnavailable("the dashboard does not answer")
        return deepcopy(self.details)

    async def apply(self, config: Mapping[str, Any]) -> None:
        if self.refuse:
            raise RayRefused(self.refuse)
        self.configs.append(config)
        self.details = applications(self.status)

    async def submit(self, job: Mapping[str, Any]) -> None:
        if self.refuse:
            raise RayRefused(self.refuse)
        self.jobs[job["submission_id"]] = {**job, "status": "PENDING"}

    async def job(self, submission_id: str) -> dict[str, Any] | None:
        return self.jobs.get(submission_id)

    async def job_logs(self, submission_id: str) -> str:
        return ""

    async def stop_job(self, submission_id: str) -> None:
        self.stopped.append(submission_id)


@dataclass
class FakeAccess:
    """Every cluster by its dashboard's port."""

    clusters: dict[int, FakeRay] = field(default_factory=dict)
    silent: bool = False
    """No proxy answers."""

    def connect(self, port: int, token: str) -> FakeRay:
        ray = self.clusters.setdefault(port, FakeRay())
        ray.token = token
        return ray

    async def serving(self, port: int) -> bool:
        return not self.silent

    @property
    def only(self) -> FakeRay:
        (ray,) = self.clusters.values()
        return ray


@dataclass
class FakeHeads:
    """Processes of Ray heads, by uid of their cluster."""

    alive: dict[str, Process] = field(default_factory=dict)
    started: list[tuple[RayHead, tuple[str, ...], dict[str, str]]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    ports_taken: bool = False
    stubborn: bool = False

    def start(self, head: RayHead, command: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
        if self.ports_taken:
            raise PortsTaken("another program listens on port 1")
        self.started.append((head, tuple(command), dict(env)))
        self.alive[head.uid] = Process(1000 + len(self.started), 1)
        return self.alive[head.uid]

    def running(self, head: RayHead) -> Process | None:
        return self.alive.get(head.uid)

    def exit_code(self, head: RayHead) -> int:
        return 137

    def stop(self, head: RayHead) -> list[Process]:
        self.stopped.append(head.uid)
        if self.stubborn:
            return [self.alive[head.uid]]
        self.alive.pop(head.uid, None)
        return []

    def forget(self, head: RayHead) -> None:
        self.forgotten.append(head.uid)
