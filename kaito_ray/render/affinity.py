"""Which replica a request goes to where there are several: the one that most likely holds its adapter.

HAProxy does it alone, by consistent hashing with bounded loads (arXiv:1608.01350): `model` of the body names a place on
a ring, and its replica takes the request unless it has more than its share, then the next one does. So an adapter stays
where it is loaded, and one that everybody asks for spreads by itself. No Python stands between (docs/adr/0016).
"""

from __future__ import annotations

from typing import Final

from kaito_ray.render import adapters
from kaito_ray.render.inputs import Manifest, ServingInputs

MOST_OF_MEAN_PERCENT: Final = 115
"""Requests in flight that a replica may have, of the mean. Lower: an adapter is loaded by more replicas; higher: more
wait at the busiest. See benchmarks/serving/placement.py."""


def balance(base: str) -> str:
    """Return how HAProxy chooses, for a model served under the name `base`.

    Serve writes it after the word `balance`, so the lines after the first are statements of their own. A request for the
    base model, or without one, has no place on the ring: an empty text has no first word. Such requests go round. That
    the body is there is the doing of the wrapper that starts HAProxy. The weight, the same for all, is 256 places on the
    ring for each replica instead of 16: their shares differ less.
    """
    lines = (
        f"hash req.body,json_query($.model),regsub(^{base}$,),word(1,/)",
        "hash-type consistent",
        f"hash-balance-factor {MOST_OF_MEAN_PERCENT}",
        "default-server weight 16",
    )
    return "\n    ".join(lines)


def environment(inputs: ServingInputs) -> list[Manifest]:
    """Return what Ray Serve shall tell HAProxy; nothing where there is one replica, or no adapter can ever come.

    Bounds of replicas and adapters change while the model serves, and must not change the pod: it counts whether there
    may be any.
    """
    several = inputs.plan.data_parallel > 1 or inputs.inference.autoscaling is not None
    if not several or not adapters.possible(inputs.plan.preset):
        return []
    return [{"name": "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM", "value": balance(inputs.plan.preset.name)}]
