"""The ways to cut a model over the GPUs of equal machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kaito_ray.catalog.gpus import Machine
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import InvalidWorkspace
from kaito_ray.estimator.options import ServingOptions


@dataclass(frozen=True)
class Split:
    """Machines, and how their GPUs divide the work: nodes x GPUs = TP x PP x DP."""

    nodes: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int


def splits(preset: ModelPreset, machine: Machine, options: ServingOptions) -> Iterator[Split]:
    """Yield every way worth trying, the fewest machines first, then the fewest GPUs for one copy of the model.

    Inside a machine: tensor parallelism by each number that divides the heads and the GPUs, and copies on the rest.
    Where the heads cannot be divided further, and across machines, pipeline stages.

    Raises:
        InvalidWorkspace: a fixed degree is impossible for this model on this machine.
    """
    gpus, layers = machine.gpu_count, preset.shape.layers
    ways = tensor_parallels(preset, gpus, options)
    widest = ways[-1]
    inside = gpus // widest
    stages = options.pipeline_parallel
    for tp in ways:
        if stages in (None, 1):
            yield Split(1, tp, 1, gpus // tp)
    for pp in range(2, min(inside, layers) + 1):
        if inside % pp == 0 and stages in (None, pp):
            yield Split(1, widest, pp, inside // pp)
    for nodes in range(2, min(layers // inside, options.max_nodes or layers) + 1):
        if stages in (None, nodes * inside):
            yield Split(nodes, widest, nodes * inside, 1)


def tensor_parallels(preset: ModelPreset, gpus: int, options: ServingOptions) -> list[int]:
    """Return the possible tensor-parallel degrees, smallest first; only the fixed one where the manifest fixes it.

    Raises:
        InvalidWorkspace: the fixed degree is not possible.
    """
    possible = [t for t in range(1, gpus + 1) if gpus % t == 0 and preset.shape.divides(t)]
    fixed = options.tensor_parallel
    if fixed is None:
        return possible
    if fixed not in possible:
        raise InvalidWorkspace(
            "inference.config",
            f"tensor-parallel-size {fixed} is not possible: it must divide {gpus} GPUs and the {preset.shape.heads} "
            f"heads of {preset.name}; use {' or '.join(map(str, possible))}",
        )
    return [fixed]
