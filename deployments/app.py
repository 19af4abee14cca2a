"""The Serve application of one Workspace: what `serveConfigV2` names as its import path.

The replica is the ingress. HAProxy reaches vLLM's own ASGI app in the replica directly; `build_openai_app` would put
Ray's Python router before it, at half the throughput (docs/adr/0004).

Ray builds an application in a process of its own, which is thrown away. So nothing here imports vLLM: the replica's
class is told by name, and what `build_llm_deployment` would ask vLLM for is known from the plan (docs/adr/0013).
"""

from __future__ import annotations

from typing import Any, Final

from ray import serve
from ray.serve import Application

from deployments.engine_args import environment
from deployments.placement import REPLICA_CPUS, bundles
from kaito_ray.api import names
from kaito_ray.api.app_args import DRAIN_S, AppArgs

REPLICA: Final = "deployments.replica.Replica"
"""Where a replica finds its class."""
_UNLIMITED: Final = 10**9
"""The gate bounds what waits, per key and with `Retry-After`; Serve's own bound would refuse before it is asked."""


def build_app(args: dict[str, Any]) -> Application:
    """Return the application; `args` is `AppArgs` as it is written in the Serve config.

    Raises:
        pydantic.ValidationError: `args` has an unknown, missing or ill-typed field; Serve shows the words.
    """
    parsed = AppArgs.from_wire(args)
    deployment = serve.deployment(
        name=names.DEPLOYMENT,
        num_replicas=parsed.replicas,
        max_ongoing_requests=_UNLIMITED,
        ray_actor_options={"num_cpus": REPLICA_CPUS, "runtime_env": {"env_vars": environment(parsed)}},
        placement_group_bundles=bundles(parsed),
        placement_group_strategy="PACK",
        graceful_shutdown_timeout_s=DRAIN_S,
        logging_config={"encoding": "JSON"},
    )
    return deployment(REPLICA).bind(args=args)
