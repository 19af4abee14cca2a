"""Which replica a request goes to where there are several, and adapters: the one that most likely holds its adapter.

HAProxy does it alone, by consistent hashing with bounded loads (arXiv:1608.01350): `model` of the body names a place on
a ring, and its replica takes the request unless it has more than its share, then the next one does. So an adapter stays
where it is loaded, and one that everybody asks for spreads by itself. No Python stands between (docs/adr/0013).
"""

from __future__ import annotations

from typing import Final

from kaito_ray.render import adapters
from kaito_ray.render.inputs import Manifest, ServingInputs

MOST_OF_MEAN_PERCENT: Final = 115
"""Requests in flight that a replica may have, of the mean. Lower: an adapter is loaded by more replicas; higher: they
wait longer for the busiest. See benchmarks/serving/placement.py."""
BUFFER_BYTES: Final = 2**16
"""How much of a body is looked at. OpenAI's client writes `messages` before `model`, and 16 KiB, HAProxy's own, are soon full."""
BALANCE: Final = f"""hash req.body,json_query($.model)
    hash-type consistent
    hash-balance-factor {MOST_OF_MEAN_PERCENT}
    option http-buffer-request
    default-server weight 16"""
"""Serve writes this after `balance`, where the words after the first line are statements of their own. The weight, the
same for all, is 256 places on the ring for each replica instead of 16: their shares differ less."""


def environment(inputs: ServingInputs) -> list[Manifest]:
    """Return what Ray Serve shall tell HAProxy; nothing where there is one replica, or no adapter can come."""
    scaling = inputs.inference.autoscaling
    replicas = max(inputs.plan.data_parallel, scaling.max_replicas if scaling else 1)
    if replicas == 1 or not adapters.slots(inputs.plan.preset, inputs.inference):
        return []
    return [
        {"name": "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM", "value": BALANCE},
        {"name": "RAY_SERVE_HAPROXY_TUNE_BUFSIZE", "value": str(BUFFER_BYTES)},
    ]
