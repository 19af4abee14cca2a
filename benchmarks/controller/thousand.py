"""How the operator bears many Workspaces: all applied at once through the embedded API, a fake KubeRay answers children.

    python -m benchmarks.controller.thousand [COUNT ...]        # 100 and 1000 by default; JSON to stdout, a table to stderr

Server, operator, fake KubeRay and client share the machine's cores, so the times are those of all four together.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from kaito_ray.kube.cluster import WORKSPACES
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.fake_kuberay import answer
from tests.operator import INSTANCE_TYPE, Scene, operator

WRITES = ("create", "replace", "replace_status", "delete")
LIMIT_S = 3600.0


@dataclass(frozen=True)
class Figures:
    """What was measured for one number of Workspaces."""

    workspaces: int
    ready_s: float
    """From the first apply until all are Ready."""
    cpu_ms_each: float
    """Processor time of the operator for each Workspace until then; other work on the machine does not change it."""
    writes_each: float
    """Writes of the operator for each Workspace, Events and the lease apart."""
    reads_each: float
    events_each: float
    rest_writes: int
    """In `rest_s` seconds after all was quiet; the lease apart."""
    rest_reads: int
    rest_s: float
    restart_s: float
    """From the start of a new operator until it has looked at every Workspace."""
    restart_writes: int
    memory_mib: float
    """Resident memory of the operator, the most that was seen."""


async def measure(home: Path, count: int, *, rest_s: float = 30.0) -> Figures:
    """Apply `count` Workspaces and return the figures."""
    port = _free_port()
    async with operator(home, "--provider", "azure", "--health-port", str(port)) as scene:
        fake = asyncio.ensure_future(answer(scene.cluster))
        memory = asyncio.ensure_future(_memory(scene))
        began, idle_s = monotonic(), _cpu_s(scene)
        await asyncio.gather(*(_apply(scene, index) for index in range(count)))
        await scene.until(lambda: _all_ready(scene, count), within_s=LIMIT_S)
        ready_s, cpu_s = monotonic() - began, _cpu_s(scene)
        await _quiet(port)
        made = await _counts(port)
        before = await _counts(port)
        await asyncio.sleep(rest_s)
        after = await _counts(port)
        assert await scene.stop() == 0
        began = monotonic()
        await scene.start()
        await scene.until(lambda: _looked_at(port, count), within_s=LIMIT_S)
        restart_s = monotonic() - began
        await _quiet(port)
        again = await _counts(port)
        memory.cancel()
        fake.cancel()
        peak = (await asyncio.gather(memory, fake, return_exceptions=True))[0]
        assert isinstance(peak, float), peak
    return Figures(
        workspaces=count,
        ready_s=round(ready_s, 1),
        cpu_ms_each=round((cpu_s - idle_s) / count * 1000, 1),
        writes_each=round(_writes(made) / count, 2),
        reads_each=round(_reads(made) / count, 1),
        events_each=round(sum(n for (verb, kind), n in made.items() if kind == "Event" and verb in WRITES) / count, 2),
        rest_writes=int(_writes(after) - _writes(before)),
        rest_reads=int(_reads(after) - _reads(before)),
        rest_s=rest_s,
        restart_s=round(restart_s, 1),
        restart_writes=int(_writes(again)),
        memory_mib=round(peak, 1),
    )


def table(found: Sequence[Figures]) -> str:
    """Return the figures as a Markdown table, a line for each figure."""
    rows = [asdict(one) for one in found]
    lines = ["| | " + " | ".join(str(row["workspaces"]) for row in rows) + " |", "|---|" + "---|" * len(rows)]
    lines += [
        f"| {key} | " + " | ".join(str(row[key]) for row in rows) + " |" for key in rows[0] if key != "workspaces"
    ]
    return "\n".join(lines)


async def _apply(scene: Scene, index: int) -> None:
    given = workspace(
        metadata={"name": f"w{index}"},
        resource={"instanceType": INSTANCE_TYPE},
        inference={"preset": {"name": "phi-4"}},
    )
    await scene.cluster.create(WORKSPACES, given)


async def _all_ready(scene: Scene, count: int) -> bool:
    await asyncio.sleep(min(count / 200, 5))  # a list of a thousand is work for the server that is measured
    found = await scene.cluster.list(WORKSPACES)
    return sum((one.get("status") or {}).get("state") == "Ready" for one in found) == count


async def _quiet(port: int) -> None:
    """Wait until nothing was written or read for some seconds."""
    last, since = -1.0, monotonic()
    while monotonic() - since < 4:
        counts = await _counts(port)
        now = _writes(counts) + _reads(counts)
        if now != last:
            last, since = now, monotonic()
        await asyncio.sleep(0.5)


async def _looked_at(port: int, count: int) -> bool:
    try:
        return (await _metrics(port)).get(("kaito_ray_reconciles_total", "done"), 0) >= count
    except aiohttp.ClientError:
        return False


def _cpu_s(scene: Scene) -> float:
    assert scene.process is not None
    used = psutil.Process(scene.process.pid).cpu_times()
    return float(used.user + used.system)


async def _memory(scene: Scene) -> float:
    peak = 0.0
    try:
        while True:
            if scene.process is not None and scene.process.poll() is None:
                peak = max(peak, psutil.Process(scene.process.pid).memory_info().rss / 2**20)
            await asyncio.sleep(0.5)
    except (asyncio.CancelledError, psutil.Error):
        return peak


async def _counts(port: int) -> dict[tuple[str, str], float]:
    """Return the requests so far by verb and kind."""
    found = await _metrics(port)
    return {key[1:]: value for key, value in found.items() if key[0] == "kaito_ray_api_requests_total"}


async def _metrics(port: int) -> dict[tuple[str, ...], float]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answered:
        families = list(text_string_to_metric_families(await answered.text()))
    order = ("verb", "kind", "outcome")
    return {
        (sample.name, *(sample.labels[key] for key in order if key in sample.labels)): sample.value
        for family in families
        for sample in family.samples
        if sample.name in ("kaito_ray_api_requests_total", "kaito_ray_reconciles_total")
    }


def _writes(counts: dict[tuple[str, str], float]) -> float:
    mine = ("Event", "Lease", "ValidatingWebhookConfiguration")
    return sum(n for (verb, kind), n in counts.items() if verb in WRITES and kind not in mine)


def _reads(counts: dict[tuple[str, str], float]) -> float:
    return sum(n for (verb, kind), n in counts.items() if verb not in WRITES and kind != "Lease")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [100, 1000]
    found = []
    for count in counts:
        with tempfile.TemporaryDirectory() as home:
            found.append(asyncio.run(measure(Path(home), count)))
            print(found[-1], file=sys.stderr, flush=True)
    print(json.dumps({"cpus": os.cpu_count(), "figures": [asdict(one) for one in found]}, indent=2))
    print(table(found), file=sys.stderr)


if __name__ == "__main__":
    main()
