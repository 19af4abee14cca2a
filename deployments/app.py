"""The Serve application of one Workspace: what `serveConfigV2` names as its import path.

The replica is the ingress. HAProxy reaches vLLM's own ASGI app in the replica directly; `build_openai_app` would put
Ray's Python router before it, at half the throughput (docs/adr/0004).
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment

from deployments.engine_args import engine_kwargs, environment
from deployments.ray_internals import WeightsAreLocal
from deployments.server import WorkspaceServer
from kaito_ray.api import names
from kaito_ray.api.app_args import DRAIN_S, AppArgs

_REPLICA_CPUS = 0.1
"""Ray's CPUs are tickets, not threads. Small, so that several replicas, and their successors, fit a two-core node."""


def build_app(args: dict[str, Any]) -> Application:
    """Return the application; `args` is `AppArgs` as it is written in the Serve config.

    Raises:
        pydantic.ValidationError: `args` has an unknown, missing or ill-typed field; Serve shows the words.
    """
    parsed = AppArgs.from_wire(args)
    return build_llm_deployment(
        llm_config(parsed),
        deployment_cls=serve.ingress()(WorkspaceServer),
        bind_kwargs={"args": args},
        override_serve_options={"name": names.DEPLOYMENT},
    )


def llm_config(args: AppArgs) -> LLMConfig:
    """Return Ray's description of the engine; the replica adds where the weights are, once it has them."""
    return LLMConfig(
        model_loading_config={"model_id": args.served_model_name, "model_source": args.served_model_name},
        engine_kwargs=engine_kwargs(args),
        # vLLM's Prometheus metrics, by vLLM's names, at /metrics; Ray's wrapper would rename and move them.
        log_engine_metrics=False,
        runtime_env={"env_vars": environment(args)},
        deployment_config={
            "num_replicas": args.replicas,
            "ray_actor_options": {"num_cpus": _REPLICA_CPUS},
            "graceful_shutdown_timeout_s": DRAIN_S,
            "logging_config": {"encoding": "JSON"},
        },
        callback_config={"callback_class": WeightsAreLocal},
        placement_group_config={"bundle_per_worker": _bundle(args)},
    )


def _bundle(args: AppArgs) -> dict[str, float]:
    return {"CPU": _REPLICA_CPUS} | ({"GPU": 1.0} if args.device == "cuda" else {})
