"""The engine class of Ray Serve LLM with a mock engine, for `RAYLLM_VLLM_ENGINE_CLS`."""

from __future__ import annotations

from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

from benchmarks.serving import mock_core


class MockEngine(VLLMEngine):
    """See the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mock_core.install()
        super().__init__(*args, **kwargs)
