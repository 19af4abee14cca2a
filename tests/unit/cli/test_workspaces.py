from __future__ import annotations

from typing import Any

import pytest

from kaito_ray.cli.workspaces import COLUMNS, NoSuchWorkspace, endpoint, pick, row, startup, stuck, summary

from .builders import workspace


def test_a_name_picks_that_workspace() -> None:
    assert pick([workspace("a"), workspace("b")], "b")["metadata"]["name"] == "b"


def test_without_a_name_the_only_one_is_picked() -> None:
    assert pick([workspace("a")], None)["metadata"]["name"] == "a"


def test_without_a_name_the_only_ready_one_is_picked() -> None:
    assert pick([workspace("a"), workspace("b", ready=True)], None, ready=True)["metadata"]["name"] == "b"


@pytest.mark.parametrize(
    ("found", "name", "ready", "words"),
    [
        pytest.param([], None, False, "no Workspace yet; apply one", id="none at all"),
        pytest.param([], "a", False, "no Workspace 'a'; apply one", id="a name, but none at all"),
        pytest.param([workspace("b")], "a", False, "no Workspace 'a'; there are: b", id="another name"),
        pytest.param([workspace("a"), workspace("b")], None, False, r"several Workspaces \(a, b\)", id="several"),
        pytest.param(
            [workspace("a", reason="loading")], None, True, r"no Workspace is ready \(a: loading\)", id="unready"
        ),
        pytest.param([workspace("a")], None, True, "a: not ready yet", id="unready, for no known reason"),
    ],
)
def test_what_is_meant_must_be_clear(found: list[Any], name: str | None, ready: bool, words: str) -> None:
    with pytest.raises(NoSuchWorkspace, match=words):
        pick(found, name, ready=ready)


def test_the_endpoint_is_the_one_in_the_status() -> None:
    assert endpoint(workspace(ready=True)) == "http://127.0.0.1:20004"


def test_a_workspace_without_endpoint_says_why() -> None:
    with pytest.raises(NoSuchWorkspace, match=r"has no endpoint yet \(pulling weights\)"):
        endpoint(workspace(reason="pulling weights"))


def test_a_tuning_workspace_has_no_endpoint() -> None:
    with pytest.raises(NoSuchWorkspace, match="tunes a model"):
        endpoint({**workspace(), "tuning": {}})


def test_only_reasons_that_wait_for_an_edit_are_stuck() -> None:
    waits = {"type": "ResourceReady", "status": "False", "reason": "DoesNotFit", "message": "too big"}
    passes = {"type": "ResourceReady", "status": "False", "reason": "NodeNotReady", "message": "soon"}
    assert stuck(workspace(conditions=[passes, waits])) == "too big"
    assert stuck(workspace(conditions=[passes])) is None
    assert stuck(workspace(conditions=[{**waits, "status": "True"}])) is None


def test_a_row_has_a_cell_for_each_column() -> None:
    cells = dict(zip(COLUMNS, row(workspace(ready=True, plan={"instanceType": "local"})), strict=True))
    assert cells["NAME"] == "smollm2"
    assert cells["INSTANCE"] == "local"
    assert cells["INFERENCEREADY"] == "True"
    assert cells["WORKSPACEREADY"] == ""


def test_a_workspace_that_nobody_has_looked_at_yet_has_a_row_too() -> None:
    bare = workspace()
    del bare["status"]
    assert row(bare)[0] == "smollm2"
    assert summary(bare)["ready"] is False


def test_the_summary_is_for_programs() -> None:
    assert summary(workspace(ready=True, state="Ready")) == {
        "namespace": "default",
        "name": "smollm2",
        "model": "smollm2-135m-instruct",
        "instanceType": "",
        "ready": True,
        "state": "Ready",
        "reason": None,
        "endpoint": "http://127.0.0.1:20004",
        "startup": [],
        "replicas": None,
    }


def test_a_first_start_is_told_phase_by_phase() -> None:
    phases = [{"name": "Planned", "at": "2026-01-01T00:00:01Z", "seconds": 1}]
    assert startup(workspace()) == ""
    assert startup(workspace(startup=phases)) == "smollm2 has been starting for 1 s: Planned 1 s"
    phases.append({"name": "Answering", "at": "2026-01-01T00:00:40Z", "seconds": 39})
    assert startup(workspace(startup=phases)) == "smollm2 answered after 40 s: Planned 1 s, Answering 39 s"
