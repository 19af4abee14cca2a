"""vLLM's side: adapters by name on top of `OpenAIServingModels`, so that every route of vLLM sees the same.

vLLM keys its prefix cache by `lora_name` alone (`v1/core/kv_cache_utils.py`), and loading "in place" changes the weights
under requests in flight. So each version of an adapter is another LoRA to the engine, with a name and an id of its own,
and what clients see is mapped back to the name that they know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vllm.lora.request import LoRARequest

from deployments.adapters.worker import AdapterHolder, Held
from kaito_ray.errors import AdapterRefused


class VllmAdapters:
    """The adapters of one vLLM engine."""

    def __init__(self, models: Any) -> None:
        """`models` is vLLM's `OpenAIServingModels`, as in `app.state.openai_serving_models`."""
        self._models = models
        self._origins: dict[str, str] = {}
        self._vllms_cards = models.show_available_models
        models.model_name = self._model_name
        models.show_available_models = self._cards

    async def load(self, name: str, folder: Path, *, version: str, origin: str) -> None:
        """As `store.Engine.load`. The weights are in the engine's memory when this returns."""
        if self._models.engine_client.vllm_config.lora_config is None:
            raise AdapterRefused("the engine runs without LoRA; set enable_lora")
        lora = LoRARequest(
            lora_name=f"{name}@{version}",
            lora_int_id=self._models.lora_id_counter.inc(1),
            lora_path=str(folder),
        )
        try:
            await self._models.engine_client.add_lora(lora)
        except Exception as error:  # vLLM raises whatever its loader raised, as plain exceptions across a process.
            raise AdapterRefused(f"vLLM cannot load it: {error}") from error
        self._origins[name] = origin
        self._models.lora_requests[name] = lora

    async def unload(self, name: str) -> None:
        """As `store.Engine.unload`. The engine itself forgets the weights when it needs the room."""
        self._models.lora_requests.pop(name, None)
        self._origins.pop(name, None)

    async def held(self) -> list[Held]:
        """Return what each worker of the engine holds; empty where it runs without LoRA."""
        client = self._models.engine_client
        if client.vllm_config.lora_config is None:
            return []
        workers: list[Held] = await client.collective_rpc(AdapterHolder.held_adapters.__name__)
        return workers

    def _model_name(self, lora_request: LoRARequest | None = None) -> str:
        if lora_request is None:
            return str(self._models.base_model_paths[0].name)
        return str(lora_request.lora_name.rpartition("@")[0])

    async def _cards(self) -> Any:
        listed = await self._vllms_cards()
        for card in listed.data:
            if card.parent is not None:
                card.id = card.id.rpartition("@")[0]
                card.root = self._origins.get(card.id, card.root)
        return listed
