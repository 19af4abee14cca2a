"""The adapters that the running engine serves, kept equal to what the Workspace asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest

from kaito_ray.api.app_args import UserAdapter
from kaito_ray.errors import AdapterRefused

logger = logging.getLogger("ray.serve")


class AdapterFiles(Protocol):
    """Where the files of an adapter come from."""

    async def directory(self, adapter: UserAdapter) -> Path:
        """Return a directory that the engine can load, with `adapter.strength` already in its weights.

        Raises:
            AdapterRefused: this adapter cannot be served; the message says why and what to do.
        """


class MountedAdapters:
    """Adapters that lie in a directory of the pod."""

    async def directory(self, adapter: UserAdapter) -> Path:
        """As `AdapterFiles.directory`."""
        if adapter.path is None:
            raise AdapterRefused(f"adapter {adapter.name}: only a mounted directory can be served here; give `path`")
        if adapter.strength != 1.0:
            raise AdapterRefused(
                f"adapter {adapter.name}: a mounted directory is served as it is; set strength to 1.0, not "
                f"{adapter.strength}"
            )
        return Path(adapter.path)


class AdapterSet:
    """What is loaded, on top of vLLM's own registry of models, so that its routes see the same."""

    def __init__(self, models: Any, files: AdapterFiles) -> None:
        """`models` is vLLM's `OpenAIServingModels`."""
        self._models = models
        self._files = files
        self._loaded: dict[str, UserAdapter] = {}

    async def converge(self, wanted: Sequence[UserAdapter]) -> None:
        """Unload what is not wanted, load what is missing or changed; requests in flight are not touched.

        Raises:
            AdapterRefused: one adapter cannot be served; the others are.
        """
        by_name = {adapter.name: adapter for adapter in wanted}
        for name in [name for name, adapter in self._loaded.items() if by_name.get(name) != adapter]:
            await self._unload(name)
        refused: list[str] = []
        for adapter in wanted:
            if adapter.name not in self._loaded:
                try:
                    await self._load(adapter)
                except AdapterRefused as error:
                    refused.append(str(error))
        if refused:
            raise AdapterRefused("; ".join(refused))

    async def _load(self, adapter: UserAdapter) -> None:
        directory = await self._files.directory(adapter)
        if self._models.engine_client.vllm_config.lora_config is None:
            raise AdapterRefused(f"adapter {adapter.name}: the engine runs without LoRA; set enable_lora")
        request = LoadLoRAAdapterRequest(lora_name=adapter.name, lora_path=str(directory))
        answer = await self._models.load_lora_adapter(request)
        if isinstance(answer, ErrorResponse):
            raise AdapterRefused(f"adapter {adapter.name}: {answer.error.message}")
        self._loaded[adapter.name] = adapter
        logger.info("adapter loaded", extra={"adapter": adapter.name})

    async def _unload(self, name: str) -> None:
        answer = await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
        if isinstance(answer, ErrorResponse):
            raise AdapterRefused(f"adapter {name} could not be unloaded: {answer.error.message}")
        del self._loaded[name]
        logger.info("adapter unloaded", extra={"adapter": name})
