"""The replica: vLLM's routes and ours, on one ASGI app."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from prometheus_client import REGISTRY
from ray.serve.llm import LLMConfig
from vllm.v1.engine import utils as vllms_processes

from deployments import engine_processes, every_node, json_logs
from deployments.adapters.cache import Cache
from deployments.adapters.check import Base, module_shapes
from deployments.adapters.engine import VllmAdapters
from deployments.adapters.memory import AdapterMemory
from deployments.adapters.source import AdapterFiles
from deployments.adapters.store import AdapterStore
from deployments.engine_args import engine_kwargs
from deployments.gate import tokens
from deployments.gate.gate import Gate
from deployments.gate.metrics import GateMetrics
from deployments.gate.watch import KeyWatch
from deployments.mounts import mounted
from deployments.placement import worker_bundle
from deployments.ray_internals import QuietLLMServer, WeightsAreLocal
from deployments.routes import startup
from deployments.routes.attach import with_our_routes
from deployments.unknown_model import name_what_exists
from kaito_ray.api.app_args import KEYS_MOUNT, AppArgs, ModelSource, UserConfig
from kaito_ray.api.status import ReplicaStart
from kaito_ray.weights import cache_directory

_FIRST_ADAPTERS_TIMEOUT_S: Final = 300.0
"""How long a replica that starts waits for its adapters before it serves without them."""
_VLLMS_MAX_LORA_RANK: Final = 16
"""vLLM's default of `max_lora_rank`."""


class WorkspaceServer(QuietLLMServer):
    """Serves one Workspace."""

    async def __init__(self, *, args: dict[str, Any]) -> None:  # type: ignore[misc] # Serve awaits it
        """Fetch the weights, start the engine, and return when it is ready; `args` is `AppArgs` as it was written."""
        json_logs.to_stdout()
        self._args = AppArgs.from_wire(args)
        self._started = False
        self._weights = await every_node.fetch(self._args.source)
        had_weights = startup.now()
        if engine_processes.wanted():
            engine_processes.fork_from(vllms_processes)
        await super().__init__(llm_config(self._args, self._weights))
        self._start = ReplicaStart(weights=had_weights, engine=startup.now())

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the app that HAProxy reaches: every route of vLLM, and ours."""
        app: FastAPI = await super().__serve_build_asgi_app__()
        lora, cache = VllmAdapters(app.state.openai_serving_models), Cache(cache_directory() / "adapters")
        self._adapters = AdapterStore(lora, AdapterFiles(cache), _base(self._args, self._weights))
        self._memory = AdapterMemory(self._adapters, cache, lora.held)
        app.state.adapter_store, app.state.adapter_memory = self._adapters, self._memory
        app.state.replica_start = self._start
        engine = app.state.engine_client
        self._gate = Gate(batch=engine.vllm_config.scheduler_config.max_num_seqs)
        self._keys = KeyWatch(self._gate, mounted(KEYS_MOUNT))
        REGISTRY.register(GateMetrics(self._gate))
        REGISTRY.register(self._memory)
        tokens.count(engine.output_processor)
        name_what_exists()
        return with_our_routes(app, self._gate)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Make the running engine match `user_config`; requests in flight are not touched.

        An adapter that cannot be served is reported at `/adapters`, not raised: Serve answers an exception here by
        replacing the replica, and so one bad adapter would take the base model down.
        """
        config = UserConfig.from_wire(user_config)
        self._gate.configure(keys_required=config.keys_required, limits=config.limits)
        await self._keys.look()
        self._keys.start()
        self._memory.start()
        await self._adapters.converge(config.adapters)
        if not self._started:
            await self._adapters.settled(_FIRST_ADAPTERS_TIMEOUT_S)
            self._started = True


def llm_config(args: AppArgs, weights: Path) -> LLMConfig:
    """Return Ray's description of the engine."""
    return LLMConfig(
        model_loading_config={"model_id": args.served_model_name, "model_source": str(weights)},
        engine_kwargs=engine_kwargs(args),
        # vLLM's Prometheus metrics, by vLLM's names, at /metrics; Ray's wrapper would rename and move them.
        log_engine_metrics=False,
        callback_config={"callback_class": WeightsAreLocal},
        placement_group_config={"bundle_per_worker": worker_bundle(args)},
    )


def _base(args: AppArgs, weights: Path) -> Base:
    return Base(
        max_lora_rank=args.engine_args.get("max_lora_rank", _VLLMS_MAX_LORA_RANK),
        names=frozenset(name for name in _names(args.source) if name) | {args.served_model_name},
        modules=module_shapes(weights),
    )


def _names(source: ModelSource) -> tuple[str | None, ...]:
    return source.hub, source.package, source.package and source.package.partition("==")[0], source.local_dir
