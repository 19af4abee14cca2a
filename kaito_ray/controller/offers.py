"""Which machines are on offer, in the order in which they are tried. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from kaito_ray.api.workspace import PartitionSpec, ResourceSpec
from kaito_ray.catalog import gpus
from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.parts import NoSuchPart, part_of_node
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import InvalidWorkspace, UserError
from kaito_ray.kube.cluster import Manifest
from kaito_ray.kube.conditions import holds


@dataclass(frozen=True)
class Offer:
    """Machines to plan for, and why they are not those that were asked for."""

    machines: tuple[Machine, ...]
    requested: str | None = None
    """The instance type of the manifest, where something else is used instead."""
    reason: str | None = None
    """`InstanceTypeRetired` or `InstanceTypeSubstituted`, in that case."""


def offer(resource: ResourceSpec, nodes: Sequence[Manifest], settings: Settings) -> Offer:
    """Return the machines that may serve a Workspace.

    Raises:
        InvalidWorkspace: the instance type is unknown, or retired and the operator refuses those.
        UserError: there is no node to use.
    """
    wanted = tuple(dict.fromkeys(name for name in (resource.instance_type, *resource.instance_types) if name))
    if resource.partition is not None and settings.provisioner != "byo":
        raise InvalidWorkspace(
            "resource.partition", "a part of a GPU can be had on nodes of your own only (provisioner byo); remove it"
        )
    if settings.provider == "local" or settings.provisioner == "byo":
        return _of_nodes(wanted, nodes, settings, resource.partition)
    _require_obtainable(resource, settings)
    if not wanted:
        # Without a wish: the cheapest that fits, by the prices that the operator was given, for they differ by region and
        # contract; else the smallest, for GPU memory follows them.
        everything = (m for m in gpus.machines(settings.provider) if m.device == "cuda" and not m.retired)
        ordered = tuple(sorted(everything, key=lambda m: (m.gpu_count * m.gpu_memory_bytes, m.instance_type)))
        return Offer(gpus.with_prices(ordered, settings.prices))
    named = [_named(name, settings) for name in wanted]
    first = named[0]
    retired = first.instance_type.lower() != wanted[0].lower()
    return Offer(
        machines=tuple(dict.fromkeys(named)),
        requested=wanted[0] if retired else None,
        reason="InstanceTypeRetired" if retired else None,
    )


def _of_nodes(
    wanted: tuple[str, ...], nodes: Sequence[Manifest], settings: Settings, partition: PartitionSpec | None
) -> Offer:
    usable = [node for node in nodes if is_ready(node)]
    if partition is None:
        machines = tuple(dict.fromkeys(gpus.machine_of_node(node) for node in usable))
    else:
        machines = _parts(usable, partition)
    if not machines:
        where = "this machine has not registered as a Node yet" if settings.provider == "local" else "no Ready node has"
        what = "" if settings.provider == "local" else " the labels of resource.labelSelector; label one"
        raise NoMachine(f"{where}{what}")
    # Bigger devices first: a GPU before a CPU.
    ordered = tuple(sorted(machines, key=lambda m: (-m.gpu_count * m.gpu_memory_bytes, -(m.memory_bytes or 0))))
    if wanted and wanted[0] not in {m.instance_type for m in machines}:
        return Offer(ordered, requested=wanted[0], reason="InstanceTypeSubstituted")
    return Offer(tuple(m for m in ordered if not wanted or m.instance_type in wanted))


def _parts(nodes: Sequence[Manifest], partition: PartitionSpec) -> tuple[Machine, ...]:
    found, why = [], None
    for node in nodes:
        try:
            found.append(part_of_node(node, partition))
        except NoSuchPart as error:
            why = why or error
    if why is not None and not found:
        raise why
    return tuple(dict.fromkeys(found))


def _require_obtainable(resource: ResourceSpec, settings: Settings) -> None:
    """Check that nothing is asked for that whoever makes the machines would not read."""
    if settings.provider != "azure" or settings.provisioner != "nodeclaim":
        return
    found = {"zones": bool(resource.zones), "capacityTypes": tuple(resource.capacity_types) not in ((), ("on-demand",))}
    for field, asked in found.items():
        if asked:
            raise InvalidWorkspace(
                f"resource.{field}",
                "gpu-provisioner makes machines on demand and without a zone; remove it, or install with "
                "provisioner=karpenter",
            )


class NoMachine(UserError):
    """There is no node to plan for; one that appears is noticed."""

    reason = "NodeNotReady"


def is_ready(node: Manifest) -> bool:
    """Return whether a Node takes pods."""
    return (
        holds(node, "Ready")
        and not node.get("spec", {}).get("unschedulable")
        and "deletionTimestamp" not in node["metadata"]
    )


def _named(name: str, settings: Settings) -> Machine:
    found = gpus.machine(name)
    if found is None or found.provider != settings.provider:
        known = [m.instance_type for m in gpus.machines(settings.provider)]
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "leave it out, and the planner picks"
        raise InvalidWorkspace("resource.instanceType", f"{settings.provider} has no known {name}; {hint}")
    if found.retired and settings.retired == "refuse":
        instead = f"use {found.substitute}" if found.substitute else "choose a current one"
        raise InvalidWorkspace("resource.instanceType", f"{name} was retired by its provider; {instead}")
    return gpus.current(found)
