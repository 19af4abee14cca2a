from __future__ import annotations

from pathlib import Path

import pytest

from kaito_ray.cli.connection import NoCluster, NotRunning, Target, find
from kaito_ray.local.home import Home

CONFIG = """
current-context: there
contexts:
- {name: here, context: {namespace: wrong}}
- {name: there, context: {namespace: team-a}}
"""


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KAITO_RAY_HOME", raising=False)
    return tmp_path


def test_the_named_kubeconfig_comes_first(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    assert find(kubeconfig=config, home=None, namespace=None) == Target(config, "team-a")


def test_a_named_namespace_wins_over_the_contexts(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)
    assert find(kubeconfig=config, home=None, namespace="b").namespace == "b"


def test_the_first_existing_file_of_a_list_is_used(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("{}")
    assert find(kubeconfig=Path(f"/no/such:{config}"), home=None, namespace=None) == Target(config, "default")


def test_a_named_kubeconfig_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(NoCluster, match="--kubeconfig: there is no file /no/such"):
        find(kubeconfig=Path("/no/such"), home=None, namespace=None)


def test_a_running_control_plane_of_this_machine_comes_before_the_usual_kubeconfig(user: Path) -> None:
    usual = user / ".kube" / "config"
    usual.parent.mkdir()
    usual.write_text("{}")
    home = Home.at(user / "home")
    assert find(kubeconfig=None, home=home.root, namespace=None).kubeconfig == usual
    with home.held():
        assert find(kubeconfig=None, home=home.root, namespace=None).kubeconfig == home.kubeconfig


def test_without_any_cluster_the_remedy_is_told(user: Path) -> None:
    with pytest.raises(NoCluster, match="kaito-ray up --detach"):
        find(kubeconfig=None, home=user, namespace=None)


@pytest.mark.parametrize("text", ["", "{", "[]", "contexts: 1", "{contexts: [{name: a}], current-context: a}"])
def test_a_kubeconfig_without_a_usable_context_means_the_default_namespace(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    assert find(kubeconfig=config, home=None, namespace=None).namespace == "default"


def test_kubectl_is_told_the_same_cluster_and_namespace() -> None:
    assert Target(Path("/k"), "n").kubectl("get", "pods") == [
        "kubectl",
        "--kubeconfig=/k",
        "--namespace=n",
        "get",
        "pods",
    ]


def test_an_exported_kubeconfig_of_a_stopped_control_plane_is_told(user: Path) -> None:
    home = Home.at(user / "home")
    home.kubeconfig.write_text("{}")
    with pytest.raises(NotRunning, match="`kaito-ray up --detach` starts it"):
        find(kubeconfig=home.kubeconfig, home=home.root, namespace=None)
    with home.held():
        assert find(kubeconfig=home.kubeconfig, home=home.root, namespace=None).kubeconfig == home.kubeconfig
