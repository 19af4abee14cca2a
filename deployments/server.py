"""The replica: vLLM's routes and ours, on one ASGI app."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import ray
from fastapi import FastAPI
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer

from deployments.adapter_set import AdapterSet, MountedAdapters
from deployments.routes import with_our_routes
from deployments.weights import local_directory
from deployments.weights.progress import Progress
from kaito_ray.api.app_args import AppArgs, UserConfig

logger = logging.getLogger("ray.serve")


class WorkspaceServer(LLMServer):  # type: ignore[misc] # Ray is not typed for us
    """Serves one Workspace."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, llm_config: LLMConfig, *, args: dict[str, Any]
    ) -> None:
        """Fetch the weights, start the engine, and return when it is ready."""
        self._args = AppArgs.from_wire(args)
        if self._args.device == "cpu":
            _use_all_cores_of_the_node()
        # Off the event loop: Serve asks a replica that is starting whether it is alive.
        weights = await asyncio.to_thread(local_directory, self._args.source, progress=Progress(logger.info))
        llm_config.model_loading_config.model_source = str(weights)
        llm_config.get_engine_config().hf_model_id = str(weights)
        await super().__init__(llm_config)

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app that HAProxy reaches: every route of vLLM, and ours."""
        app: FastAPI = await super().__serve_build_asgi_app__()
        self._adapters = AdapterSet(app.state.openai_serving_models, MountedAdapters())
        return with_our_routes(app)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Make the running engine match `user_config`; requests in flight are not touched."""
        config = UserConfig.from_wire(user_config)
        await self._adapters.converge(config.adapters)


def _use_all_cores_of_the_node() -> None:
    """Give the engine as many threads as Ray counts CPUs on this node.

    Ray sets OMP_NUM_THREADS to the CPUs that the replica asked for, rounded up: one.
    """
    node_id = ray.get_runtime_context().get_node_id()
    cpus = next(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == node_id)
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
