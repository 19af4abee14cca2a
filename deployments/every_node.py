"""Weights on every node that a replica spans: with pipeline parallelism its workers sit on several."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import ray
from ray.util import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deployments.mounts import mounted
from kaito_ray.api.app_args import REGISTRY_MOUNT, ModelSource
from kaito_ray.weights import local_directory
from kaito_ray.weights.progress import Progress

logger = logging.getLogger("ray.serve")


async def fetch(source: ModelSource) -> Path:
    """Return the directory of the weights, the same on each node, once all have them."""
    # Off the event loop: Serve asks a replica that is starting whether it is alive.
    here = asyncio.to_thread(_local, source, Progress(logger.info))
    task = ray.remote(num_cpus=0)(_fetch)
    elsewhere = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(source.to_wire())
        for node in _other_nodes()
    ]
    directories: list[Path] = await asyncio.gather(here, *elsewhere)
    return directories[0]


def _fetch(source: dict[str, Any]) -> None:
    _local(ModelSource.from_wire(source))


def _local(source: ModelSource, progress: Progress | None = None) -> Path:
    return local_directory(source, progress=progress, credentials=mounted(REGISTRY_MOUNT))


def _other_nodes() -> set[str]:
    """Return the ids of the nodes on which this replica's placement group has bundles, this node left out."""
    group = get_current_placement_group()
    if group is None:
        return set()
    nodes: set[str] = set(placement_group_table(group)["bundles_to_node_id"].values())
    return nodes - {ray.get_runtime_context().get_node_id()}
