from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kaito_ray.cli.connection import Target
from kaito_ray.cli.forward import ForwardFailed, inside_cluster_only, reachable

from .builders import workspace

Script = Callable[[str, str], None]
INSIDE = workspace(endpoint="http://smollm2.default.svc")
TARGET = Target(Path("/kubeconfig"), "default")


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://smollm2.default.svc", True),
        ("http://smollm2.default.svc.cluster.local:80", True),
        ("http://127.0.0.1:20004", False),
        ("http://models.example.com", False),
    ],
)
def test_only_service_names_need_a_forward(url: str, inside: bool) -> None:
    assert inside_cluster_only(url) is inside


def test_a_loopback_endpoint_is_used_as_it_is() -> None:
    with reachable(TARGET, workspace(ready=True)) as url:
        assert url == "http://127.0.0.1:20004"


def test_kubectl_forwards_as_long_as_it_is_needed(script: Script, tmp_path: Path) -> None:
    words = tmp_path / "words"
    script("kubectl", f'echo "$@" >{words}\necho "Forwarding from 127.0.0.1:4321 -> 8000"\nexec sleep 60')
    with reachable(TARGET, INSIDE) as url:
        assert url == "http://127.0.0.1:4321"
    assert words.read_text().split() == [
        "--kubeconfig=/kubeconfig",
        "--namespace=default",
        "port-forward",
        "--address=127.0.0.1",
        "service/smollm2",
        ":80",
    ]


def test_kubectls_own_words_say_why_not(script: Script) -> None:
    script("kubectl", "echo 'services \"smollm2\" not found' >&2; exit 1")
    with pytest.raises(ForwardFailed, match='services "smollm2" not found'), reachable(TARGET, INSIDE):
        pass


def test_a_missing_kubectl_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ForwardFailed, match="kubectl is needed"), reachable(TARGET, INSIDE):
        pass
