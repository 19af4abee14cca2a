"""What a replica and its engine's workers ask Ray for. Pure."""

from __future__ import annotations

from typing import Final

from kaito_ray.api.app_args import AppArgs

REPLICA_CPUS: Final = 0.1
"""Ray's CPUs are tickets, not threads. Small, so that several replicas, and their successors, fit a two-core node."""


def worker_bundle(args: AppArgs) -> dict[str, float]:
    """Return what one worker of the engine asks for."""
    return {"CPU": REPLICA_CPUS} | ({"GPU": 1.0} if args.device == "cuda" else {})


def bundles(args: AppArgs) -> list[dict[str, float]]:
    """Return the placement group of one replica: a bundle for each worker, the replica itself beside the first."""
    workers = args.engine_args.get("tensor_parallel_size", 1) * args.engine_args.get("pipeline_parallel_size", 1)
    first, *others = [worker_bundle(args) for _ in range(workers)]
    return [first | {"CPU": first["CPU"] + REPLICA_CPUS}, *others]
