from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from kaito_ray.cli.waiting import NotReadyInTime, WaitsForEdit, display, until_ready
from kaito_ray.cli.workspaces import NoSuchWorkspace
from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import WORKSPACES
from kaito_ray.testing.fake_cluster import FakeCluster

from .builders import workspace


class Clock:
    """Time goes by only while somebody pauses; then `meanwhile` happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: list[Callable[[], Any]] = []

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        if self.meanwhile:
            await self.meanwhile.pop(0)()


async def wait(cluster: FakeCluster, clock: Clock, timeout_s: float = 5) -> list[tuple[str, float]]:
    seen = []

    def show(found: Any, seconds: float) -> None:
        seen.append((found[0].get("status", {}).get("reason", ""), seconds))

    await until_ready(cluster, "default", "smollm2", show=show, timeout_s=timeout_s, pause=clock.pause, clock=clock)
    return seen


async def update(cluster: FakeCluster, **changes: Any) -> None:
    stored = await cluster.get(WORKSPACES, "smollm2", "default")
    assert stored
    await cluster.replace_status(WORKSPACES, {**stored, "status": workspace(**changes)["status"]})


async def test_every_look_is_shown_until_it_serves() -> None:
    cluster, clock = FakeCluster(), Clock()
    await cluster.create(WORKSPACES, workspace(reason="starting Ray"))
    clock.meanwhile = [
        lambda: update(cluster, reason="loading weights"),
        lambda: update(cluster, ready=True, reason=""),
    ]
    assert await wait(cluster, clock) == [("starting Ray", 0), ("loading weights", 1), ("", 2)]


async def test_a_restart_of_the_api_server_is_waited_out() -> None:
    cluster, clock = FakeCluster(), Clock()
    await cluster.create(WORKSPACES, workspace(ready=True, reason=""))
    cluster.fail_next(ApiUnavailable("restarting"))
    assert len(await wait(cluster, clock)) == 2


async def test_what_only_an_edit_can_help_ends_the_wait_at_once() -> None:
    cluster, clock = FakeCluster(), Clock()
    refusal = {"type": "ResourceReady", "status": "False", "reason": "DoesNotFit", "message": "use a larger GPU"}
    await cluster.create(WORKSPACES, workspace(conditions=[refusal]))
    with pytest.raises(WaitsForEdit, match="use a larger GPU"):
        await wait(cluster, clock)
    assert clock.now == 0


async def test_the_wait_ends_with_the_last_known_reason() -> None:
    cluster, clock = FakeCluster(), Clock()
    await cluster.create(WORKSPACES, workspace(reason="loading weights"))
    with pytest.raises(NotReadyInTime, match=r"not ready after 6 s \(loading weights\)"):
        await wait(cluster, clock)


async def test_a_workspace_that_is_gone_ends_the_wait() -> None:
    with pytest.raises(NoSuchWorkspace, match="not there"):
        await wait(FakeCluster(), Clock())


def test_without_a_terminal_a_line_is_written_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    with display() as show:
        show([workspace(reason="starting Ray")], 0)
        show([workspace(reason="starting Ray")], 1)
        show([workspace(ready=True)], 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("    0s  name=smollm2")
    assert "why=starting Ray" in lines[0]
    assert "inferenceready=True" in lines[1]


def test_on_a_terminal_of_80_columns_nothing_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    with display() as show:
        show([workspace(reason="loading the model: 3 of 4 shards are in memory")], 12)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).splitlines()[-3:]
    assert last[0].split() == ["NAME", "RESOURCEREADY", "INFERENCEREADY", "WORKSPACEREADY", "ELAPSED"]
    assert last[1].split() == ["smollm2", "True", "False", "12s"]
    assert last[2].strip() == "smollm2: loading the model: 3 of 4 shards are in memory"
