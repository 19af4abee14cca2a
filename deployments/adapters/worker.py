"""What vLLM's worker says of its adapters: a method that the engine's processes get by `worker_extension_cls`.

vLLM itself tells only which adapters run right now, not which it holds, nor what they take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import torch


class Held(TypedDict):
    """Adapters of one worker and their bytes, in the host's memory and in the engine's slots."""

    host_adapters: int
    host_room: int
    """How many the host's memory may hold: `max_cpu_loras`."""
    host_bytes: int
    engine_adapters: int
    engine_room: int
    """Slots of the engine: `max_loras`."""
    engine_bytes: int
    """All slots, empty ones too: they are set aside when the engine starts."""


class AdapterHolder:
    """Becomes a base class of vLLM's worker."""

    model_runner: Any

    def held_adapters(self) -> Held:
        """Return what this worker holds now."""
        manager = self.model_runner.lora_manager._adapter_manager  # noqa: SLF001 - vLLM shows it nowhere else
        loaded = manager.list_adapters().values()
        return Held(
            host_adapters=len(loaded),
            host_room=manager.capacity,
            host_bytes=_bytes([vars(layer) for adapter in loaded for layer in adapter.loras.values()]),
            engine_adapters=sum(adapter is not None for adapter in manager.lora_index_to_id),
            engine_room=manager.lora_slots,
            engine_bytes=_bytes([getattr(layer, half, ()) for layer in manager.modules.values() for half in _SLOTS]),
        )


_SLOTS = ("lora_a_stacked", "lora_b_stacked")


def _bytes(holder: Any) -> int:
    """Return the bytes of all tensors in there; those that share memory count once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in _tensors(holder)}.values())


def _tensors(holder: Any) -> Iterator[torch.Tensor]:
    if isinstance(holder, torch.Tensor):
        yield holder
    elif isinstance(holder, dict):
        yield from _tensors(list(holder.values()))
    elif isinstance(holder, list | tuple):
        for part in holder:
            yield from _tensors(part)
