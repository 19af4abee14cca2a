"""Hundreds of adapters on an engine that holds a few: loaded when they are asked for, and memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaito_ray.api.app_args import UserAdapter, UserConfig
from tests.e2e.gate.conftest import BATCH, ENGINE_SLOTS, HOST_SLOTS, MODEL
from tests.e2e.gate.test_gate import body, metric, replica, until
from tests.e2e.serving.serve import Served
from tests.tiny_model import make_adapters

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

COUNT = 200


@pytest.fixture
def declared(served: Served, http: httpx.Client, tiny: Path, mounts: Path) -> Iterator[list[str]]:
    """The names of that many adapters, all ready."""
    volume = Path("/mnt/adapters")
    folders = make_adapters(tiny, mounts / volume.relative_to("/"), count=COUNT)
    adapters = tuple(UserAdapter(name=f"a{folder.name}", path=str(volume / folder.name)) for folder in folders)
    served.put(UserConfig(adapters=adapters))
    until(lambda: len(states(http)) == COUNT and not {"Waiting", "Pulling"} & set(states(http)), within_s=300)
    assert set(states(http)) == {"Ready"}, http.get("/adapters").text[:2000]
    yield [adapter.name for adapter in adapters]
    served.put(UserConfig())
    served.wait()


def states(http: httpx.Client) -> list[str]:
    return [adapter["state"] for adapter in http.get("/adapters").json()["adapters"]]


def memory(http: httpx.Client) -> dict[str, Any]:
    return {place["where"]: place for place in http.get("/adapters").json()["memory"]}


def said(http: httpx.Client, models: list[str]) -> dict[str, str]:
    """What each says, asked side by side."""

    def one(model: str) -> str:
        answer = http.post("/v1/completions", json=body(model=model, max_tokens=4, temperature=0.0))
        return str(answer.raise_for_status().json()["choices"][0]["text"])

    with ThreadPoolExecutor(BATCH) as threads:
        return dict(zip(models, threads.map(one, models), strict=True))


def test_each_of_200_adapters_answers_and_memory_is_bounded(
    served: Served, http: httpx.Client, declared: list[str]
) -> None:
    before = replica(served)
    first = said(http, [MODEL, *declared])
    assert len(set(first.values())) > 0.9 * COUNT, "each must be another model, or nothing is tested"
    # By now these were thrown out, and come from disk again.
    assert said(http, declared[:10]).items() <= first.items()
    assert {card["id"] for card in http.get("/v1/models").json()["data"]} == {MODEL, *declared}

    until(lambda: memory(http)["host"]["adapters"] == HOST_SLOTS)
    places = memory(http)
    assert (places["engine"]["adapters"], places["engine"]["adaptersLimit"]) == (ENGINE_SLOTS, ENGINE_SLOTS)
    assert places["host"]["adaptersLimit"] == HOST_SLOTS
    assert 0 < places["host"]["bytes"] < HOST_SLOTS * 2**20
    assert places["disk"]["adapters"] >= COUNT
    assert 0 < places["disk"]["bytes"] < places["disk"]["bytesLimit"]
    assert metric(http, 'kaito_ray_adapters{state="Ready"}') == COUNT
    assert metric(http, 'kaito_ray_adapters_held{where="host"}') == HOST_SLOTS
    assert metric(http, 'kaito_ray_adapter_bytes{where="engine"}') == places["engine"]["bytes"]
    assert replica(served) == before
