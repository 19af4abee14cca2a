"""vLLM without an engine: tokens come by the clock, and everything above the engine's process is vLLM's own.

The one thing faked is the client to the engine core. Requests, LoRA names, detokenizing, streaming and metrics run as
always, so what is measured is the way of a token from there to the client. A request says its pace itself, in
`vllm_xargs`: `first_ms` to its first token and `gap_ms` between two; without pauses each turn of the event loop brings
every request one token.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.core_client import EngineCoreClient

TOKEN_ID = 30


@dataclass
class _Running:
    request_id: str
    due: float
    gap_s: float
    left: int


class MockCore(EngineCoreClient):
    """As vLLM's `AsyncMPClient`, to the methods that serving text calls."""

    def __init__(self) -> None:
        self.engine_ranks_managed = [0]
        self.resources = SimpleNamespace(engine_dead=False)
        self._running: dict[str, _Running] = {}
        self._came = asyncio.Event()

    def shutdown(self, timeout: float | None = None) -> None:  # noqa: ARG002 - the signature is vLLM's
        self._running.clear()

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return ("generate",)

    async def reset_mm_cache_async(self) -> None:
        pass

    async def add_lora_async(self, lora_request: LoRARequest) -> bool:  # noqa: ARG002 - the signature is vLLM's
        return True

    async def remove_lora_async(self, lora_id: int) -> bool:  # noqa: ARG002 - the signature is vLLM's
        return True

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            self._running.pop(request_id, None)

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        params = request.sampling_params
        assert params is not None
        pace: dict[str, Any] = params.extra_args or {}
        first_s, gap_s = pace.get("first_ms", 0) / 1000, pace.get("gap_ms", 0) / 1000
        due = asyncio.get_running_loop().time() + first_s
        self._running[request.request_id] = _Running(request.request_id, due, gap_s, params.max_tokens or 1)
        self._came.set()

    async def get_output_async(self) -> EngineCoreOutputs:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while not (due := [request for request in self._running.values() if request.due <= loop.time()]):
            self._came.clear()
            next_due = min((request.due for request in self._running.values()), default=None)
            alarm = loop.call_at(next_due, self._came.set) if next_due is not None else None
            await self._came.wait()
            if alarm:
                alarm.cancel()
        return EngineCoreOutputs(outputs=[self._token(request) for request in due])

    def _token(self, request: _Running) -> EngineCoreOutput:
        request.left -= 1
        request.due += request.gap_s
        if request.left:
            return EngineCoreOutput(request_id=request.request_id, new_token_ids=[TOKEN_ID])
        del self._running[request.request_id]
        return EngineCoreOutput(
            request_id=request.request_id, new_token_ids=[TOKEN_ID], finish_reason=FinishReason.LENGTH
        )


def install() -> None:
    """Let every engine that this process starts be a mock."""
    EngineCoreClient.make_async_mp_client = staticmethod(lambda *_, **__: MockCore())
