"""`inference.autoscaling` -> how Ray Serve scales, and whether the Ray cluster grows with it.

A replica of a Workspace is its plan once more. On GPUs it comes with machines of its own, so the cluster is a head
without GPU work and a group of workers that Ray's autoscaler grows and shrinks, to nothing where `minReplicas` is 0. On
a CPU replicas share the one machine and its pod, and nothing but Serve's numbers change.

The bounds are Serve's alone, in the part of the Serve config that changes in place. The worker group has none of its
own: KubeRay takes a change of its bounds and never carries it out in a live cluster.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.estimator.plan import ServingPlan
from kaito_ray.render.inputs import Manifest, ServingInputs

UPSCALE_DELAY_S: Final = 30
DOWNSCALE_DELAY_S: Final = 600
_LOOK_BACK_S: Final = (5, 30)
"""Over how many seconds load is averaged, at least and at most; in between, as long as the delay of a new replica."""
_TARGET: Final = (2, 32)
"""Bounds of the planner's own target: two requests batch well, and past 32 a batch gains little and each waits long."""


def by_machines(inputs: ServingInputs) -> bool:
    """Return whether each replica comes with machines of its own."""
    return inputs.inference.autoscaling is not None and inputs.plan.machine.device == "cuda"


def most_machines(inputs: ServingInputs) -> int:
    """Return the machines that the highest number of replicas needs."""
    scaling = inputs.inference.autoscaling
    return inputs.plan.nodes * (scaling.max_replicas if scaling and by_machines(inputs) else 1)


def most_pods(inputs: ServingInputs) -> int:
    """Return how many pods there are at most: one on each machine, and a head of its own where machines come and go."""
    return most_machines(inputs) + by_machines(inputs)


def autoscaling_config(inputs: ServingInputs) -> Manifest | None:
    """Return Serve's `autoscaling_config`, which counts copies of the model; None where nothing is scaled."""
    scaling, copies = inputs.inference.autoscaling, inputs.plan.data_parallel
    if scaling is None:
        return None
    upscale_delay_s = UPSCALE_DELAY_S if scaling.upscale_delay_seconds is None else scaling.upscale_delay_seconds
    downscale_delay_s = (
        DOWNSCALE_DELAY_S if scaling.downscale_delay_seconds is None else scaling.downscale_delay_seconds
    )
    return {
        "min_replicas": copies * scaling.min_replicas,
        # Also where there may be none: the first one proves that the model can be served.
        "initial_replicas": min(
            max(inputs.copies_now, copies * max(scaling.min_replicas, 1)), copies * scaling.max_replicas
        ),
        "max_replicas": copies * scaling.max_replicas,
        "target_ongoing_requests": scaling.target_ongoing_requests or target(inputs.plan),
        "upscale_delay_s": upscale_delay_s,
        "downscale_delay_s": downscale_delay_s,
        "look_back_period_s": min(max(upscale_delay_s, _LOOK_BACK_S[0]), _LOOK_BACK_S[1]),
    }


def target(plan: ServingPlan) -> int:
    """Return the requests that one copy of the model should have in flight: as many full contexts as it caches."""
    low, high = _TARGET
    return min(max(plan.concurrent_sequences // plan.data_parallel, low), high)
