"""Adapters on a real vLLM in float32, compared with transformers and peft."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from vllm import SamplingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.openai.models.protocol import BaseModelPath
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.v1.engine.async_llm import AsyncLLM

from deployments.adapters.cache import Cache
from deployments.adapters.check import Base, module_shapes
from deployments.adapters.engine import VllmAdapters
from deployments.adapters.source import AdapterFiles
from deployments.adapters.store import AdapterStore
from kaito_ray.api.app_args import UserAdapter
from kaito_ray.api.status import AdapterStatus
from kaito_ray.errors import AdapterRefused
from tests import adapters
from tests.tiny_model import VOCABULARY, make_adapter, make_base, next_logprobs

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("default"),
    pytest.mark.asyncio(loop_scope="module"),
]

TOLERANCE = 2e-5
"""Of a log-probability, absolute: float32 sums in another order differ by about 3e-6."""
PROMPT = [3 + (7 * i) % 250 for i in range(300)]
"""Longer than two blocks of vLLM's prefix cache on CPU, which have 128 tokens."""


class Serving:
    """One engine, its adapters, and what a client would do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = make_base(root / "base")
        self.engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=str(self.base),
                dtype="float32",
                enforce_eager=True,
                skip_tokenizer_init=True,
                max_model_len=1024,
                max_num_seqs=4,
                kv_cache_memory_bytes=64 * 2**20,
                max_logprobs=VOCABULARY,
                enable_lora=True,
                max_lora_rank=8,
                max_loras=1,
                max_cpu_loras=2,
                enable_prefix_caching=True,
            )
        )
        self.models = OpenAIServingModels(self.engine, [BaseModelPath(name="tiny", model_path=str(self.base))])
        self.adapters = VllmAdapters(self.models)
        self.store = AdapterStore(
            self.adapters,
            AdapterFiles(Cache(root / "cache"), credentials=root / "secrets"),
            Base(max_lora_rank=8, modules=module_shapes(self.base)),
        )
        self._ids = itertools.count()

    async def want(self, *wanted: UserAdapter) -> dict[str, AdapterStatus]:
        await self.store.converge(wanted)
        assert await self.store.settled(30)
        return {status.name: status for status in self.store.statuses()}

    async def outputs(self, name: str | None, *, max_tokens: int = 1) -> AsyncIterator[Any]:
        sampling = SamplingParams(
            max_tokens=max_tokens, temperature=0.0, logprobs=VOCABULARY, ignore_eos=True, detokenize=False
        )
        prompt = TokensPrompt(prompt_token_ids=PROMPT)
        lora = self.models.lora_requests[name] if name else None
        async for output in self.engine.generate(prompt, sampling, str(next(self._ids)), lora_request=lora):
            yield output

    async def next_logprobs(self, name: str | None) -> torch.Tensor:
        async for output in self.outputs(name):
            first = output.outputs[0].logprobs[0]
        return torch.tensor([first[token].logprob for token in range(VOCABULARY)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("engine"))
    yield serving
    await serving.store.close()
    serving.engine.shutdown()
    # vLLM leaves its ZeroMQ context to the collector, which complains: here, not when pytest ends.
    vars(serving).clear()
    gc.collect()


def wanted(name: str, folder: Path, strength: float = 1.0) -> UserAdapter:
    return UserAdapter(name=name, path=str(folder), strength=strength)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}], ids=["plain", "rank-stabilised"])
async def test_strength_is_the_scale_of_the_update(serving: Serving, tmp_path: Path, options: dict[str, Any]) -> None:
    adapter = make_adapter(serving.base, tmp_path / "adapter", seed=1, **options)
    plain = await serving.next_logprobs(None)
    assert (plain - next_logprobs(serving.base, PROMPT)).abs().max() < TOLERANCE
    full = next_logprobs(serving.base, PROMPT, adapter=adapter)
    assert (full - plain).abs().max() > 0.5, "the adapter must matter, or nothing is tested"
    for strength in (1.0, 0.5, 0.0, 0.25):
        await serving.want(wanted("a", adapter, strength))
        served = await serving.next_logprobs("a")
        expected = next_logprobs(serving.base, PROMPT, adapter=adapter, strength=strength)
        assert (served - expected).abs().max() < TOLERANCE, strength
        if strength == 0.0:
            assert torch.equal(served, plain)


async def test_a_replaced_adapter_is_not_answered_from_the_old_ones_cache(serving: Serving, tmp_path: Path) -> None:
    old, new = (make_adapter(serving.base, tmp_path / str(seed), seed=seed) for seed in (2, 3))
    await serving.want(wanted("a", old))
    for _ in range(2):
        await serving.next_logprobs("a")
    await serving.want(wanted("a", new))
    expected = next_logprobs(serving.base, PROMPT, adapter=new)
    assert (await serving.next_logprobs("a") - expected).abs().max() < TOLERANCE


async def test_requests_in_flight_keep_their_adapter(serving: Serving, tmp_path: Path) -> None:
    old, new = (make_adapter(serving.base, tmp_path / str(seed), seed=seed) for seed in (4, 5))
    await serving.want(wanted("a", old))
    undisturbed = [output async for output in serving.outputs("a", max_tokens=60)][-1].outputs[0].token_ids
    begun = asyncio.Event()

    async def stream() -> list[int]:
        tokens: list[int] = []
        async for output in serving.outputs("a", max_tokens=60):
            begun.set()
            tokens = output.outputs[0].token_ids
        return tokens

    for change in ([wanted("a", new)], []):
        begun.clear()
        task = asyncio.create_task(stream())
        await begun.wait()
        await serving.want(*change)
        assert not task.done(), "the change must come while it generates"
        assert await task == undisturbed
        await serving.want(wanted("a", old))


async def test_more_adapters_than_the_engine_holds_take_turns(serving: Serving, tmp_path: Path) -> None:
    folders = {f"a{seed}": make_adapter(serving.base, tmp_path / str(seed), seed=seed) for seed in range(6, 10)}
    await serving.want(*(wanted(name, folder) for name, folder in folders.items()))
    for name, folder in [*folders.items(), *folders.items()]:
        expected = next_logprobs(serving.base, PROMPT, adapter=folder)
        assert (await serving.next_logprobs(name) - expected).abs().max() < TOLERANCE, name


async def test_clients_see_plain_names(serving: Serving, tmp_path: Path) -> None:
    folder = make_adapter(serving.base, tmp_path / "a", seed=1)
    status = (await serving.want(wanted("my.adapter-1", folder, 0.5)))["my.adapter-1"]
    cards = {card.id: card for card in (await serving.models.show_available_models()).data}
    assert set(cards) == {"tiny", "my.adapter-1"}
    assert cards["my.adapter-1"].root == f"{folder}@{status.digest}"
    assert cards["my.adapter-1"].parent == "tiny"
    assert serving.models.model_name(serving.models.lora_requests["my.adapter-1"]) == "my.adapter-1"
    assert serving.models.model_name() == "tiny"
    await serving.want()
    assert [card.id for card in (await serving.models.show_available_models()).data] == ["tiny"]


async def test_what_vllm_refuses_does_not_end_it(serving: Serving, tmp_path: Path) -> None:
    folder = adapters.write(tmp_path, adapters.files("", target_modules=["nonsense"]))
    renamed = {name.replace("q_proj", "nonsense"): tensor for name, tensor in adapters.tensors().items()}
    (folder / "adapter_model.safetensors").write_bytes(adapters.save(renamed))
    with pytest.raises(AdapterRefused, match=r"vLLM cannot load it: .*nonsense"):
        await serving.adapters.load("bad", folder, version="v", origin="test")
    assert "bad" not in serving.models.lora_requests
    await serving.next_logprobs(None)
