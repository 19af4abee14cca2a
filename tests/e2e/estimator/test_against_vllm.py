"""What the planner counts is what vLLM allocates: the cache of every kind of layer, and the weights.

vLLM builds each preset's text model without memory (meta device) and is asked for its own KV-cache specs, for what its
admission takes for one sequence of several lengths, and for the size of its parameters.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.catalog.load import find
from kaito_ray.estimator.cpu import CPU_BLOCK_TOKENS
from kaito_ray.estimator.kv_cache import CacheLayout, sequence_bytes, state_bytes, token_bytes
from tests.e2e.estimator.families import (
    NOT_BUILT,
    NOT_BUILT_SPLIT,
    buildable,
    why_weights_are_not_compared,
)

pytestmark = pytest.mark.engine

CONFIGS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "unit" / "catalog" / "configs.yaml").read_text(encoding="utf-8")
)
BUILT = {name: built for name, config in CONFIGS.items() if (built := buildable(config))}
RANKS = (1, 2, 4)
CASES = [
    (name, ranks)
    for name in BUILT
    for ranks in RANKS
    if find(name).shape.divides(ranks) and (name, ranks) not in NOT_BUILT_SPLIT
]
COMPARED = [name for name in BUILT if why_weights_are_not_compared(find(name), CONFIGS[name]) is None]

Described = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Described:
    """vLLM's answers for every model and degree, from one run of the program beside this file."""
    file = tmp_path_factory.mktemp("specs") / "configs.yaml"
    file.write_text(yaml.safe_dump(BUILT), encoding="utf-8")
    program = Path(__file__).with_name("engine_specs.py")
    ran = subprocess.run(
        [sys.executable, str(program), ",".join(map(str, RANKS)), str(file)],
        capture_output=True,
        text=True,
        timeout=540,
        check=True,
    )
    answers = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    return {(a["name"], a["ranks"]): a for a in answers}


def layout(answer: dict[str, Any]) -> CacheLayout:
    """The planner's view of the engine that gave the answer: its blocks and its steps."""
    blocks = {kind: tokens for kind, tokens, _, _ in answer["layers"]}
    return CacheLayout(
        tensor_parallel=answer["ranks"],
        batched_tokens=answer["batchedTokens"],
        concurrent_steps=answer["concurrentSteps"],
        block_tokens=blocks.get("FullAttentionSpec") or blocks.get("MLAAttentionSpec") or CacheLayout.block_tokens,
        window_block_tokens=blocks.get("SlidingWindowSpec", CacheLayout.window_block_tokens),
    )


@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_one_layer_keeps_what_vllm_says(described: Described, name: str, ranks: int) -> None:
    answer = described[name, ranks]
    assert "error" not in answer, answer
    on = layout(answer)
    ours = sorted(
        (group.layers, state_bytes(group, on) or token_bytes(group, on) * tokens)
        for group, tokens in zip(find(name).shape.groups, block_sizes(name, on), strict=True)
    )
    theirs = sorted((count, page) for _, _, page, count in answer["layers"])
    assert ours == theirs


def block_sizes(name: str, on: CacheLayout) -> list[int]:
    return [on.window_block_tokens if group.kind == "sliding" else on.block_tokens for group in find(name).shape.groups]


@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_one_sequence_takes_what_vllm_admits(described: Described, name: str, ranks: int) -> None:
    answer = described[name, ranks]
    shape, on = find(name).shape, layout(answer)
    if any(state_bytes(group, on) for group in shape.groups):
        # vLLM has grown the attention's block already; the planner starts from the small one and grows it itself.
        on = replace(on, block_tokens=CPU_BLOCK_TOKENS)
    assert {n: sequence_bytes(shape, int(n), on) for n in answer["sequences"]} == answer["sequences"]


@pytest.mark.parametrize(
    ("name", "ranks"), [(n, r) for n in BUILT for r in RANKS if not find(n).shape.divides(r)], ids=str
)
def test_what_the_planner_calls_indivisible_vllm_refuses(described: Described, name: str, ranks: int) -> None:
    assert "error" in described[name, ranks]


@pytest.mark.parametrize("name", COMPARED)
def test_weights_are_the_catalog_s_size(described: Described, name: str) -> None:
    assert described[name, 1]["weights"] == pytest.approx(find(name).weights_bytes, rel=0.002)


def test_every_preset_is_compared_or_has_a_reason() -> None:
    left_out = {name for name in CONFIGS if name not in BUILT}
    assert {CONFIGS[name]["architectures"][0] for name in left_out} == set(NOT_BUILT)
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
    assert f"{len(BUILT)} of {len(CONFIGS)} presets" in page
    assert f"{len(COMPARED)} presets: all dense" in page
    assert all(architecture in page for architecture in NOT_BUILT)
