"""Whose Workspace is concerned, and whether a change matters."""

from typing import Any

import pytest

from kaito_ray.controller.queue import Key
from kaito_ray.controller.references import Changes, References, owner_key
from kaito_ray.testing.builders import adapter, merged, node, workspace

KEY = Key("default", "smol")


def test_an_owner_is_named_by_two_labels() -> None:
    labels = {"kaito.sh/workspace": "smol", "kaito.sh/workspacenamespace": "default"}
    assert owner_key({"metadata": {"labels": labels}}) == KEY
    assert owner_key({"metadata": {"labels": {"kaito.sh/workspace": "smol"}}}) is None
    assert owner_key({"metadata": {}}) is None


def test_a_config_map_concerns_the_workspaces_of_its_namespace_that_name_it() -> None:
    references = References()
    references.learn(KEY, workspace(inference={"config": "mine"}))
    references.learn(Key("other", "smol"), workspace(inference={"config": "mine"}))
    assert references.naming("ConfigMap", "default", "mine") == [KEY]
    assert references.naming("ConfigMap", "default", "yours") == []
    references.learn(KEY, None)
    assert references.naming("ConfigMap", "default", "mine") == []


def test_pull_secrets_concern_the_workspaces_that_name_them() -> None:
    references = References()
    references.learn(KEY, workspace(inference={"adapters": [adapter(source={"imagePullSecrets": ["pull"]})]}))
    assert references.naming("Secret", "default", "pull") == [KEY]
    assert references.naming("ConfigMap", "default", "pull") == []


def test_a_tuning_workspace_concerns_those_that_serve_what_it_tuned() -> None:
    references = References()
    references.learn(KEY, workspace(inference={"adapters": [{"source": {"name": "style", "workspace": "run"}}]}))
    assert references.naming("Workspace", "default", "run") == [KEY]
    assert references.naming("Workspace", "other", "run") == []


def stored(**changes: Any) -> dict[str, Any]:
    return merged(merged(node(), {"metadata": {"uid": "u", "resourceVersion": "1"}}), changes)


BEAT = {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": "later"}]}
DOWN = {"conditions": [{"type": "Ready", "status": "False", "reason": "KubeletDown"}]}


@pytest.mark.parametrize(
    ("after", "matters"),
    [
        pytest.param(stored(metadata={"resourceVersion": "2"}), False, id="nothing but a version"),
        pytest.param(stored(status=BEAT), False, id="a heartbeat"),
        pytest.param(stored(status=DOWN), True, id="a node that went down"),
    ],
)
def test_noise_is_not_news(after: dict[str, Any], matters: bool) -> None:
    changes = Changes()
    assert changes.matters(stored(), gone=False)
    assert changes.matters(after, gone=False) is matters


def test_our_own_status_is_not_news_and_a_spec_is() -> None:
    changes, before = Changes(), merged(workspace(), {"metadata": {"uid": "u"}})
    assert changes.matters(before, gone=False, ignore="status")
    assert not changes.matters({**before, "status": {"state": "Ready"}}, gone=False, ignore="status")
    assert changes.matters(merged(before, {"inference": {"config": "c"}}), gone=False, ignore="status")


def test_what_is_gone_is_news_and_what_comes_again_too() -> None:
    changes = Changes()
    changes.matters(stored(), gone=False)
    assert changes.matters(stored(), gone=True)
    assert changes.matters(stored(), gone=False)
