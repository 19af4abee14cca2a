"""A part of a node as a machine of its own: some of its GPUs, or one MIG slice, with its share of CPUs and memory.

Only nodes that are there already can be shared; on made ones a model gets the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from kaito_ray.api.rules.resource import MIG_PROFILE
from kaito_ray.api.workspace import PartitionSpec
from kaito_ray.catalog.gpus import GPU_RESOURCE, Machine, machine_of_node
from kaito_ray.errors import InvalidWorkspace, UserError


class NoSuchPart(UserError):
    """No node that is selected has the part of a GPU that is asked for; one that gets it is noticed."""

    reason = "NoSuchPart"


def part_of_node(node: Mapping[str, Any], partition: PartitionSpec) -> Machine:
    """Return that part of a Kubernetes Node.

    Raises:
        NoSuchPart: the node has none.
        UserError: the node has GPUs of which nothing is known.
    """
    if partition.mode == "mig":
        return _slice(node, partition.profile or "")
    return _some(node, partition.count or 1)


def _some(node: Mapping[str, Any], count: int) -> Machine:
    whole = machine_of_node(node)
    if whole.gpu_count < count:
        name = node["metadata"]["name"]
        raise NoSuchPart(f"resource.partition.count: {name} has {whole.gpu_count} GPUs, not {count}; ask for fewer")
    return _shared(replace(whole, gpu_count=count), count / whole.gpu_count)


def _slice(node: Mapping[str, Any], profile: str) -> Machine:
    """Return a slice. Its memory is the profile's word for it in decimal units, which is a little less than it has."""
    if (found := MIG_PROFILE.fullmatch(profile)) is None:
        raise InvalidWorkspace("resource.partition.profile", f"{profile!r} is no MIG profile; use one such as 1g.10gb")
    resource = f"nvidia.com/mig-{profile.replace('+', '.')}"
    slices = int((node.get("status", {}).get("capacity") or {}).get(resource) or 0)
    if slices == 0:
        name = node["metadata"]["name"]
        raise NoSuchPart(
            f"resource.partition.profile: {name} reports no {resource}; divide its GPUs so, or select others"
        )
    whole = machine_of_node(_undivided(node))
    memory_bytes = int(found["gigabytes"]) * 10**9
    share = min(1 / slices, memory_bytes / max(1, whole.gpu_count * whole.gpu_memory_bytes))
    return _shared(replace(whole, gpu_count=1, gpu_memory_bytes=memory_bytes, gpu_resource=resource), share)


def _undivided(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the node as if its GPUs were whole, of which none is left to allocate."""
    labels = node["metadata"].get("labels") or {}
    whole = deepcopy(dict(node))
    whole["status"]["capacity"][GPU_RESOURCE] = str(max(1, int(labels.get("nvidia.com/gpu.count") or 0)))
    return whole


def _shared(machine: Machine, share: float) -> Machine:
    return replace(
        machine,
        cpus=machine.cpus and machine.cpus * share,
        memory_bytes=machine.memory_bytes and int(machine.memory_bytes * share),
    )
