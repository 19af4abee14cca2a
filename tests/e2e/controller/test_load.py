"""The benchmark's small form: what each Workspace costs the API server, at rest and after a restart too."""

from __future__ import annotations

from pathlib import Path

from benchmarks.controller.thousand import measure


async def test_a_workspace_costs_few_writes_and_nothing_at_rest_or_at_a_restart(tmp_path: Path) -> None:
    found = await measure(tmp_path, 20, rest_s=3)
    assert found.writes_each <= 12
    assert (found.rest_writes, found.restart_writes) == (0, 0)
    assert found.memory_mib <= 200
