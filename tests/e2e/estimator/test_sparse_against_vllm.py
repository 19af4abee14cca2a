"""Sparse MLA: what a sequence takes is what vLLM admits for the same layers, in 16 bits and packed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.catalog.load import find
from kaito_ray.catalog.models import LatentAttention, SparseIndex
from kaito_ray.estimator.kv_cache import CacheLayout, sequence_bytes

pytestmark = pytest.mark.engine

BLOCK_TOKENS = 64
CASES = [(name, kind) for name in ("deepseek-v3.2", "glm-5.2-fp8") for kind in ("bfloat16", "fp8_ds_mla")]


def row(name: str, cache_type: str) -> dict[str, Any]:
    latent, index = find(name).shape.groups
    assert isinstance(latent, LatentAttention)
    assert isinstance(index, SparseIndex)
    return {
        "layers": latent.layers,
        "indexers": index.layers,
        "kvLoraRank": latent.kv_lora_rank,
        "ropeDim": latent.rope_dim,
        "keyDim": index.key_dim,
        "blockTokens": BLOCK_TOKENS,
        "cacheType": cache_type,
    }


@pytest.fixture(scope="module")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    file = tmp_path_factory.mktemp("sparse") / "rows.yaml"
    file.write_text(yaml.safe_dump({f"{n} {kind}": row(n, kind) for n, kind in CASES}), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.e2e.estimator.engine_sparse_specs", str(file)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    found: dict[str, dict[str, int]] = json.loads(ran.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("name", "cache_type"), CASES)
def test_one_sequence_takes_what_vllm_admits(admitted: dict[str, dict[str, int]], name: str, cache_type: str) -> None:
    layout = CacheLayout(element_bytes=1 if cache_type == "fp8_ds_mla" else 2, block_tokens=BLOCK_TOKENS)
    theirs = admitted[f"{name} {cache_type}"]
    assert {n: sequence_bytes(find(name).shape, int(n), layout) for n in theirs} == theirs
