from pathlib import Path
from types import SimpleNamespace

import torch
from prometheus_client import CollectorRegistry, generate_latest

from deployments.adapters.cache import Cache
from deployments.adapters.memory import AdapterMemory
from deployments.adapters.worker import AdapterHolder, Held
from kaito_ray.api.status import AdapterStatus
from tests import adapters

HELD = Held(host_adapters=3, host_room=16, host_bytes=300, engine_adapters=2, engine_room=4, engine_bytes=1000)


class Declared:
    """Three adapters."""

    def statuses(self) -> tuple[AdapterStatus, ...]:
        return tuple(
            AdapterStatus(name=name, state=state)  # type: ignore[arg-type]
            for name, state in (("a", "Ready"), ("b", "Ready"), ("c", "Failed"))
        )


async def memory(root: Path, *workers: Held) -> AdapterMemory:
    cache = Cache(root, limit_bytes=500)
    for letter in "ab":
        async with cache.filling(adapters.digest(letter.encode())) as filling:
            assert filling is not None
            (filling.adapter / "adapter_model.safetensors").write_bytes(bytes(100))

    async def held() -> list[Held]:
        return list(workers)

    made = AdapterMemory(Declared(), cache, held)  # type: ignore[arg-type]
    await made.look()
    return made


async def test_each_place_says_how_many_it_holds_what_they_take_and_its_bound(tmp_path: Path) -> None:
    assert [place.to_wire() for place in (await memory(tmp_path, HELD)).places] == [
        {"where": "disk", "adapters": 2, "bytes": 200, "bytesLimit": 500},
        {"where": "host", "adapters": 3, "adaptersLimit": 16, "bytes": 300},
        {"where": "engine", "adapters": 2, "adaptersLimit": 4, "bytes": 1000},
    ]


async def test_workers_hold_parts_of_the_same_adapters(tmp_path: Path) -> None:
    _, host, engine = (await memory(tmp_path, HELD, HELD)).places
    assert (host.adapters, host.bytes) == (3, 600)
    assert (engine.adapters, engine.bytes) == (2, 2000)


async def test_an_engine_without_lora_holds_none(tmp_path: Path) -> None:
    assert [place.where for place in (await memory(tmp_path)).places] == ["disk"]


async def test_prometheus_reads_the_same(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(await memory(tmp_path, HELD))
    lines = set(generate_latest(registry).decode().splitlines())
    assert lines >= {
        'kaito_ray_adapters{state="Ready"} 2.0',
        'kaito_ray_adapters{state="Failed"} 1.0',
        'kaito_ray_adapters_held{where="host"} 3.0',
        'kaito_ray_adapters_held_limit{where="engine"} 4.0',
        'kaito_ray_adapter_bytes{where="disk"} 200.0',
        'kaito_ray_adapter_bytes_limit{where="disk"} 500.0',
    }
    assert not any(line.startswith('kaito_ray_adapters_held_limit{where="disk"}') for line in lines)


def test_memory_that_two_layers_share_counts_once() -> None:
    first, last = torch.zeros(10), torch.zeros(5)
    packed = SimpleNamespace(lora_a=[first, None, last], lora_b=None)
    slots = SimpleNamespace(lora_a_stacked=(first,), lora_b_stacked=(last,))
    manager = SimpleNamespace(
        capacity=16,
        lora_slots=2,
        lora_index_to_id=[None, 7],
        modules={"q": slots, "also q": slots, "without slots": object()},
        list_adapters=lambda: {7: SimpleNamespace(loras={"q": packed, "also q": packed})},
    )
    worker = AdapterHolder()
    worker.model_runner = SimpleNamespace(lora_manager=SimpleNamespace(_adapter_manager=manager))
    assert worker.held_adapters() == Held(
        host_adapters=1, host_room=16, host_bytes=60, engine_adapters=1, engine_room=2, engine_bytes=60
    )
