"""Runs the pods of this machine, as a kubelet would: starts, probes, restarts, stops, and says so in their status.

Only Ray heads run here. A pod keeps our finalizer until its last process has ended, so that an object which is gone
means processes which are gone; and whatever a crash left behind without a pod is found by its record and ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from kaito_ray.api.app_args import MOUNT_ROOT
from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import CONFIG_MAPS, PODS, SECRETS, Manifest, Resource
from kaito_ray.local import containers, pod_status, ray_head
from kaito_ray.local.home import Home, read_json, write_json, write_private
from kaito_ray.local.objects import Objects, controller_uid, deleting, due, seconds_since, timestamp
from kaito_ray.local.patience import Patience, described
from kaito_ray.local.pod_status import Container
from kaito_ray.local.ports import RayPorts
from kaito_ray.local.processes import Process
from kaito_ray.local.ray_head import RayHead
from kaito_ray.local.volumes import Places, UnsupportedVolume, write_volumes

log = logging.getLogger(__name__)

FINALIZER: Final = "local.kaito.sh/processes"
"""Kept on a pod until none of its processes is left."""
FIRST_PORT: Final = "local.kaito.sh/first-port"
"""Annotation: the first port of the cluster's block."""

_LOG_LIMIT_BYTES: Final = 64 * 2**20


class Heads(Protocol):
    """Starting and stopping Ray heads; `kaito_ray.local.ray_head` is the real one."""

    def start(self, head: RayHead, command: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
        """Start a head, detached."""

    def running(self, head: RayHead) -> Process | None:
        """Return the head process if it runs."""

    def exit_code(self, head: RayHead) -> int:
        """Return how the head that ran last ended."""

    def stop(self, head: RayHead) -> list[Process]:
        """End every process of the cluster; return those left even so."""

    def forget(self, head: RayHead) -> None:
        """Remove what is known of the cluster."""


class Kubelet:
    """The pods of this machine."""

    def __init__(
        self, home: Home, objects: Objects, node: str, probe: Callable[[RayHead], Awaitable[bool]], heads: Heads
    ) -> None:
        self._home = home
        self._objects = objects
        self._node = node
        self._probe = probe
        self._heads = heads
        self._patience = Patience()

    async def reconcile(self) -> None:
        """Bring processes in line with pods, and the pods' status in line with processes."""
        pods = [p for p in self._objects.all(PODS) if p["spec"].get("nodeName") == self._node and _first_port(p)]
        results = await asyncio.gather(*(self._sync(pod) for pod in pods), return_exceptions=True)
        await self._sweep({self._head(pod).directory.name for pod in pods}, {_directory(pod) for pod in pods})
        failures = [r for r in results if isinstance(r, BaseException)]
        if failures:
            raise failures[0]

    async def _sync(self, pod: Manifest) -> None:
        if not self._patience.due(pod):
            return
        try:
            if deleting(pod):
                await self._remove(pod)
            elif pod.get("status", {}).get("phase") not in ("Failed", "Succeeded"):
                await self._run(pod)
        except TransientError:
            raise
        except Exception as error:  # of one pod; the others go on
            log.exception("pod %s: a pass failed", pod["metadata"]["name"])
            await self._trouble(pod, error)
        else:
            self._patience.well(pod)

    async def _trouble(self, pod: Manifest, error: Exception) -> None:
        """Say on the pod what nobody foresaw, in the words of a kubelet; it is tried again with back-off."""
        words = described(error)
        if self._patience.failed(pod, error):
            await self._objects.event(pod, "Failed", words, kind="Warning")
        pod = self._objects.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"]) or pod
        if not deleting(pod) and self._heads.running(self._head(pod)) is None:
            stuck = replace(pod_status.of(pod), state=pod_status.waiting("RunContainerError", words), ready=False)
            await self._objects.replace_status(PODS, pod, pod_status.pod_status(pod, stuck))

    async def _run(self, pod: Manifest) -> None:
        head, known = self._head(pod), pod_status.of(pod)
        process = self._heads.running(head)
        if process and read_json(head.directory / "cluster.json").get("pod") != pod["metadata"]["uid"]:
            process = None  # it belongs to a former pod of this cluster; the start below ends it
        if process is None:
            now = await self._start(pod, head, _ended(known, self._heads.exit_code(head)))
        else:
            self._volumes(pod)
            since = known.state.get("running", {}).get("startedAt") or timestamp()
            ready = await self._probe(head)
            now = replace(known, state=pod_status.running(since), ready=ready, pid=process.pid)
        # Others write to the pod as well (a label), and the probe took its time.
        pod = self._objects.get(PODS, pod["metadata"]["name"], pod["metadata"]["namespace"]) or pod
        if now is not None:
            await self._objects.replace_status(PODS, pod, pod_status.pod_status(pod, now))
        _limit(self._log(pod))

    async def _start(self, pod: Manifest, head: RayHead, known: Container) -> Container | None:
        """Start the process unless it must wait; None means that the pod has failed for good."""
        end = known.last_state.get("terminated", {})
        ran_s = seconds_since(end["startedAt"]) if end.get("startedAt") else 0.0
        if end and not due(end["finishedAt"], pod_status.backoff_s(known.restarts, ran_s)):
            return replace(
                known, state=pod_status.waiting("CrashLoopBackOff", "waits before the next start; see its log")
            )
        spec = pod["spec"]["containers"][0]
        try:
            env = self._environment(pod)
        except (containers.MissingReference, UnsupportedVolume) as error:
            return replace(known, state=pod_status.waiting(error.reason, str(error)))
        write_json(
            head.directory / "cluster.json",
            {"uid": head.uid, "firstPort": head.ports.base, "pod": pod["metadata"]["uid"]},
        )
        if token := env.pop("RAY_AUTH_TOKEN", None):
            write_private(head.token_path, token)
        command = [*spec.get("command", []), *spec.get("args", [])]
        inherited = ray_head.environment(head, env, os.environ)
        try:
            process = await asyncio.to_thread(self._heads.start, head, command, inherited, self._log(pod))
        except ray_head.PortsTaken as error:
            await self._objects.replace_status(PODS, pod, pod_status.failed_status(pod, error.reason, str(error)))
            return None
        log.info("Ray head of %s started, pid %d", pod["metadata"]["name"], process.pid)
        return replace(
            known,
            state=pod_status.running(timestamp()),
            restarts=known.restarts + 1 if end else 0,
            ready=False,
            pid=process.pid,
        )

    async def _remove(self, pod: Manifest) -> None:
        head = self._head(pod)
        if left := await asyncio.to_thread(self._heads.stop, head):
            raise TransientError(f"processes {[p.pid for p in left]} of pod {pod['metadata']['name']} do not end")
        self._heads.forget(head)
        shutil.rmtree(self._home.pods / _directory(pod), ignore_errors=True)
        if FINALIZER in pod["metadata"].get("finalizers", []):
            released = deepcopy(pod)
            released["metadata"]["finalizers"].remove(FINALIZER)
            await self._objects.replace(PODS, released)

    async def _sweep(self, clusters: set[str], pods: set[str]) -> None:
        """End what a crash left behind: clusters and pod directories of which there is no pod."""
        for directory in self._home.ray.iterdir():
            record = read_json(directory / "cluster.json")
            if directory.name in clusters:
                continue
            if record:
                head = RayHead(record["uid"], directory, RayPorts(record["firstPort"]))
                log.info("ending Ray cluster %s, which has no pod", directory.name)
                await asyncio.to_thread(self._heads.stop, head)
            shutil.rmtree(directory, ignore_errors=True)
        for directory in self._home.pods.iterdir():
            if directory.name not in pods:
                shutil.rmtree(directory, ignore_errors=True)

    def _head(self, pod: Manifest) -> RayHead:
        meta = pod["metadata"]
        return head_of(self._home, meta["namespace"], meta["labels"]["ray.io/cluster"], controller_uid(pod) or "", pod)

    def _environment(self, pod: Manifest) -> dict[str, str]:
        spec = pod["spec"]["containers"][0]
        found = self._lookups(pod)
        env = containers.environment(pod, spec, secret=found["secret"], config_map=found["configMap"])
        return {**env, MOUNT_ROOT: str(self._volumes(pod))}

    def _volumes(self, pod: Manifest) -> Path:
        spec = pod["spec"]["containers"][0]
        places = Places(self._home.pods / _directory(pod), self._home.claims, self._lookups(pod))
        return write_volumes(pod, spec, places)

    def _lookups(self, pod: Manifest) -> dict[str, containers.Lookup]:
        def of(resource: Resource) -> containers.Lookup:
            def lookup(name: str) -> Mapping[str, bytes] | None:
                item = self._objects.get(resource, name, pod["metadata"]["namespace"])
                return containers.content(item) if item else None

            return lookup

        return {"secret": of(SECRETS), "configMap": of(CONFIG_MAPS)}

    def _log(self, pod: Manifest) -> Path:
        return self._home.pods / _directory(pod) / f"{pod['spec']['containers'][0]['name']}.log"


def head_of(home: Home, namespace: str, cluster: str, uid: str, pod: Manifest) -> RayHead:
    """Return the local Ray cluster that a pod stands for."""
    return RayHead(uid, home.ray / f"{namespace}_{cluster}", RayPorts(_first_port(pod)))


def _first_port(pod: Manifest) -> int:
    return int(pod["metadata"].get("annotations", {}).get(FIRST_PORT, 0))


def _directory(pod: Manifest) -> str:
    return f"{pod['metadata']['namespace']}_{pod['metadata']['name']}"


def _ended(known: Container, exit_code: int) -> Container:
    """Return the container with the end of its run noted, if it was running."""
    if "running" not in known.state:
        return known
    end = pod_status.terminated(exit_code, known.state["running"].get("startedAt"))
    return replace(known, state=end, last_state=end, ready=False, pid=None)


def _limit(path: Path) -> None:
    """Keep a log from filling the disk: the old half moves to `.1`. Writers append, so they go on at the new end."""
    if path.is_file() and path.stat().st_size > _LOG_LIMIT_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
