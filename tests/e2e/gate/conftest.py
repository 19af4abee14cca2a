"""One application for all tests of this folder: a model of two layers, so that nothing but the way to it takes time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kaito_ray.api.app_args import AppArgs, ModelSource
from tests.e2e.serving.serve import Served, serving
from tests.tiny_model import make_talking_base

MODEL = "tiny"
BATCH = 4
"""Requests that the engine works on at once."""
ENGINE_SLOTS, HOST_SLOTS = 2, 8


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_base(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the pod's file system."""
    root = tmp_path_factory.mktemp("rootfs")
    (root / "mnt" / "keys").mkdir(parents=True)
    return root


@pytest.fixture(scope="session")
def served(tiny: Path, mounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    args = AppArgs(
        workspace="gate",
        namespace="default",
        served_model_name=MODEL,
        source=ModelSource(local_dir=str(tiny)),
        device="cpu",
        engine_args={
            "max_model_len": 512,
            "max_num_seqs": BATCH,
            "kv_cache_memory_bytes": 2**26,
            "enable_lora": True,
            "max_loras": ENGINE_SLOTS,
            "max_cpu_loras": HOST_SLOTS,
        },
    )
    with serving(args, tmp_path_factory.mktemp("gate"), uid="e2e-gate", mounts=mounts) as served:
        yield served


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client
