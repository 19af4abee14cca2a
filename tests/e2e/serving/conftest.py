"""One application for all tests of this folder: SmolLM2 on the CPU, as the quick start serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from kaito_ray.api.app_args import AppArgs
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.e2e.serving.serve import Served, serving

PRESET = "smollm2-135m-instruct"
CONTEXT_TOKENS = 2048


@pytest.fixture(scope="session")
def weights() -> Path:
    """Where the weights are; fetched before the replica's own time is measured."""
    return local_directory(find(PRESET).source)


@pytest.fixture(scope="session")
def served(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    preset = find(PRESET)
    args = AppArgs(
        workspace="e2e",
        namespace="default",
        served_model_name=PRESET,
        source=preset.source,
        device="cpu",
        engine_args={"max_model_len": CONTEXT_TOKENS, "dtype": "bfloat16", "enable_lora": True},
        tool_call_parser=preset.tool_call_parser,
    )
    with serving(args, tmp_path_factory.mktemp("serving"), uid="e2e-serving") as served:
        yield served


@pytest.fixture(scope="session")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client
