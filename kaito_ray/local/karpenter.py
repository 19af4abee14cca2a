"""Karpenter on one machine: this machine is the one Node, and every NodePool that admits it gets a NodeClaim on it.

A NodeClaim that somebody else made, without a pool, is met too. The Node states the machine's true capacity. A GPU is
never faked: a NodePool that asks for another instance type gets no claim, and an Event that says so; a NodeClaim that
does is deleted with such an Event, as Karpenter does where there is no capacity.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from kaito_ray.errors import TransientError
from kaito_ray.kube.cluster import NODE_CLAIMS, NODE_POOLS, NODES, Manifest
from kaito_ray.local.objects import Objects, condition, controller_uid, deleting, due, owner_reference, timestamp
from kaito_ray.local.ports import LOOPBACK

log = logging.getLogger(__name__)

INSTANCE_TYPE: Final = "local"
_INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_HEARTBEAT_S: Final = 60.0
_CGROUP: Final = Path("/sys/fs/cgroup")


def node_name() -> str:
    """Return this machine's name as a Kubernetes name."""
    kept = "".join(c if c.isalnum() or c == "-" else "-" for c in platform.node().split(".")[0].lower())
    return kept.strip("-")[:63] or "localhost"


def capacity(storage: Path) -> dict[str, str]:
    """Return what this machine has: within the limits of the container that it may be itself. No GPU is claimed."""
    cpus, memory = float(len(os.sched_getaffinity(0))), psutil.virtual_memory().total
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cpus = min(cpus, int(quota[0]) / int(quota[1]))
    if (limit := _read(_CGROUP / "memory.max")).isdigit():
        memory = min(memory, int(limit))
    return {
        "cpu": f"{int(cpus * 1000)}m" if cpus % 1 else str(int(cpus)),
        "memory": f"{memory // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(storage).total // 1024}Ki",
        "pods": "110",
        "nvidia.com/gpu": "0",
    }


def node(name: str) -> Manifest:
    """Return the Node of this machine, without its status."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "kubernetes.io/os": "linux",
                _INSTANCE_TYPE_LABEL: INSTANCE_TYPE,
                "karpenter.sh/capacity-type": "on-demand",
                "karpenter.sh/registered": "true",
                "karpenter.sh/initialized": "true",
            },
        },
        "spec": {"providerID": f"local:///{name}"},
    }


def node_status(now: Manifest, has: Mapping[str, str]) -> Manifest:
    """Return the Node's status; its heartbeat is renewed once a minute."""
    before = now.get("status", {}).get("conditions", [])
    beat = next((c.get("lastHeartbeatTime") for c in before if c["type"] == "Ready"), None)
    if beat is None or due(beat, _HEARTBEAT_S):
        beat = timestamp()
    name = now["metadata"]["name"]
    return {
        "capacity": dict(has),
        "allocatable": dict(has),
        "addresses": [{"type": "InternalIP", "address": LOOPBACK}, {"type": "Hostname", "address": name}],
        "conditions": [condition(before, "Ready", True, "KubeletReady", "", lastHeartbeatTime=beat)],
        "nodeInfo": _node_info(),
    }


def admits(spec: Manifest) -> bool:
    """Return whether the requirements of a NodeClaim's spec, or of a NodePool's template of one, allow this machine."""
    requirements = spec.get("requirements", [])
    return all(_admits(r) for r in requirements if r["key"] == _INSTANCE_TYPE_LABEL)


def node_claim(pool: Manifest) -> Manifest:
    """Return the NodeClaim of a pool, without its status. Its name follows from the pool's, so there is only one."""
    meta, template = pool["metadata"], pool["spec"]["template"]
    labels = {
        **template.get("metadata", {}).get("labels", {}),
        "karpenter.sh/nodepool": meta["name"],
        _INSTANCE_TYPE_LABEL: INSTANCE_TYPE,
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {
            "name": f"{meta['name'][:57]}-{INSTANCE_TYPE}",
            "labels": labels,
            "ownerReferences": [owner_reference(pool)],
        },
        "spec": {"requirements": [], **template["spec"]},
    }


def claim_status(claim: Manifest, name: str, has: Mapping[str, str]) -> Manifest:
    """Return the status of a claim that is met by this machine."""
    before = claim.get("status", {}).get("conditions", [])
    generation = claim["metadata"].get("generation", 1)
    met = ("Launched", "Registered", "Initialized", "Ready")
    return {
        "nodeName": name,
        "providerID": f"local:///{name}",
        "capacity": dict(has),
        "allocatable": dict(has),
        "conditions": [condition(before, t, True, t, "", observedGeneration=generation) for t in met],
    }


def pool_status(pool: Manifest, claims: int, has: Mapping[str, str]) -> Manifest:
    """Return the status of a NodePool."""
    before = pool.get("status", {}).get("conditions", [])
    generation = pool["metadata"].get("generation", 1)
    met = ("ValidationSucceeded", "NodeClassReady", "Ready")
    return {
        **pool.get("status", {}),
        "nodes": claims,
        "resources": {**(has if claims else {}), "nodes": str(claims)},
        "conditions": [condition(before, t, True, t, "", observedGeneration=generation) for t in met],
    }


@dataclass
class Karpenter:
    """The controller."""

    objects: Objects
    node_name: str
    storage: Path
    _refused: set[tuple[str, int]] = field(default_factory=set)

    async def reconcile(self) -> None:
        """Bring the Node, the NodeClaims and the NodePools' status up to date."""
        has = capacity(self.storage)
        this = await self.objects.ensure(NODES, node(self.node_name))
        await self.objects.replace_status(NODES, this, node_status(this, has))
        for pool in self.objects.all(NODE_POOLS):
            try:
                await self._pool(pool, has)
            except TransientError as error:
                log.info("NodePool %s will be tried again: %s", pool["metadata"]["name"], error)
        for claim in self.objects.all(NODE_CLAIMS):
            try:
                await self._claim(claim, has)
            except TransientError as error:
                log.info("NodeClaim %s will be tried again: %s", claim["metadata"]["name"], error)

    async def _pool(self, pool: Manifest, has: Mapping[str, str]) -> None:
        claims = self.objects.owned(NODE_CLAIMS, pool)
        if deleting(pool):
            return
        if not admits(pool["spec"]["template"]["spec"]):
            await self._refuse(pool)
            for claim in claims:
                if not deleting(claim):
                    await self.objects.delete(NODE_CLAIMS, claim)
            claims = []
        elif not claims:
            claims = [await self.objects.create(NODE_CLAIMS, node_claim(pool))]
        for claim in claims:
            if not deleting(claim):
                await self.objects.replace_status(NODE_CLAIMS, claim, claim_status(claim, self.node_name, has))
        await self.objects.replace_status(NODE_POOLS, pool, pool_status(pool, len(claims), has))

    async def _claim(self, claim: Manifest, has: Mapping[str, str]) -> None:
        """Meet a claim that belongs to no pool."""
        if deleting(claim) or controller_uid(claim) is not None:
            return
        if admits(claim["spec"]):
            await self.objects.replace_status(NODE_CLAIMS, claim, claim_status(claim, self.node_name, has))
        else:
            await self._refuse(claim)
            await self.objects.delete(NODE_CLAIMS, claim)

    async def _refuse(self, asking: Manifest) -> None:
        key = (asking["metadata"]["uid"], asking["metadata"].get("generation", 1))
        if key not in self._refused:
            self._refused.add(key)
            message = (
                f"this machine offers the instance type {INSTANCE_TYPE!r} alone, which the requirement "
                f"{_INSTANCE_TYPE_LABEL} does not admit"
            )
            await self.objects.event(asking, "NoCompatibleInstanceTypes", message, kind="Warning")


def _admits(requirement: Mapping[str, Any]) -> bool:
    listed = INSTANCE_TYPE in requirement.get("values", [])
    return {"In": listed, "NotIn": not listed, "Exists": True}.get(requirement["operator"], False)


def _node_info() -> dict[str, str]:
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "bootID": _read(Path("/proc/sys/kernel/random/boot_id")),
        "containerRuntimeVersion": "process://1",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "",
        "kubeletVersion": "v1.36.0",
        "machineID": _read(Path("/etc/machine-id")),
        "operatingSystem": "linux",
        "osImage": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "systemUUID": "",
    }


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
