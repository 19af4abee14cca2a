"""Which machines a plan is made for: the one named, those of a provider, or this one."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kaito_ray.errors import UserError

if TYPE_CHECKING:
    from kaito_ray.catalog.gpus import Machine
    from kaito_ray.estimator.options import ServingOptions

LOCAL: Final = "local"


class UnknownMachine(UserError):
    """No instance type or provider has that name."""

    reason = "UnknownMachine"


def named(instance_type: str) -> Machine:
    """Return the machine of that name; a retired one is replaced by its successor, `local` is this machine.

    Raises:
        UnknownMachine: it is not in the catalog; near names are suggested.
    """
    from kaito_ray.catalog.gpus import current, machine, machines

    if instance_type == LOCAL:
        return this_machine()
    if found := machine(instance_type):
        return current(found)
    known = {m.instance_type.lower(): m.instance_type for m in machines()}
    near = [known[n] for n in get_close_matches(instance_type.lower(), known, n=3, cutoff=0.5)]
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"use {LOCAL!r}, a GPU such as A100, or one of docs/machines.md"
    )
    raise UnknownMachine(f"--gpu: no instance type is named {instance_type!r}; {hint}")


def of_gpu(name: str) -> tuple[Machine, ...]:
    """Return the current machines with that GPU: `A100`, `NVIDIA A100`, `H200`; empty where none is called so."""
    from kaito_ray.catalog.gpus import machines

    def called(machine: Machine) -> set[str]:
        model = (machine.gpu_model or "").lower()
        return {model, model.rpartition(" ")[2]} if model else set()

    return tuple(m for m in machines() if name.lower() in called(m) and not m.retired)


def on(machine: Machine, options: ServingOptions) -> ServingOptions:
    """Return the options with the engine image that runs on that machine: for AMD's there is one in plans only."""
    from kaito_ray.estimator.options import ROCM

    return replace(options, image=ROCM) if machine.vendor == ROCM.vendor else options


def of_provider(provider: str) -> tuple[Machine, ...]:
    """Return every machine that a provider still offers.

    Raises:
        UnknownMachine: there is no such provider.
    """
    from kaito_ray.catalog.gpus import machines

    if found := tuple(m for m in machines(provider.lower()) if not m.retired):
        return found
    known = sorted({m.provider for m in machines()})
    raise UnknownMachine(f"--provider: there is none named {provider!r}; there are: {', '.join(known)}")


def this_machine() -> Machine:
    """Return this machine as `kaito-ray up` presents it: its true capacity."""
    from kaito_ray.catalog.gpus import machine_of_node

    return machine_of_node(this_node())


def this_node() -> dict[str, Any]:
    """Return the Node that `kaito-ray up` would make of this machine."""
    from kaito_ray.local.karpenter import capacity, node, node_name, node_status

    bare = node(node_name())
    return {**bare, "status": node_status(bare, capacity(Path.home()))}
