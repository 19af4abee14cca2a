"""Flags and their environment variables."""

from pathlib import Path

import pytest

from kaito_ray.controller.settings import Settings, from_arguments
from kaito_ray.render.inputs import Redis


def test_flags_win_over_variables_and_variables_over_defaults() -> None:
    environ = {"KAITO_RAY_WORKER_IMAGE": "from-env", "KAITO_RAY_PROVIDER": "aws"}
    found = from_arguments(["--worker-image", "from-flag", "--kubeconfig", "/k"], environ)
    assert (found.worker_image, found.provider, found.kubeconfig) == ("from-flag", "aws", Path("/k"))


def test_without_anything_it_is_a_pod_in_a_cluster() -> None:
    found = from_arguments([], {})
    assert (found.kubeconfig, found.namespaces, found.webhook_service) == (None, (), None)


def test_namespaces_are_a_list() -> None:
    assert from_arguments(["--namespaces", "a, b,"], {}).namespaces == ("a", "b")


def test_an_unknown_provider_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_arguments(["--provider", "gcp"], {})
    assert "gcp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "redis"),
    [
        ([], None),
        (["--redis-address", "redis:6379"], Redis("redis:6379")),
        (["--redis-address", "redis:6379", "--redis-secret", "mine"], Redis("redis:6379", "mine", "password")),
        (["--redis-address", "redis:6379", "--redis-secret", "mine/key"], Redis("redis:6379", "mine", "key")),
    ],
)
def test_a_redis_has_an_address_and_perhaps_a_password(flags: list[str], redis: Redis | None) -> None:
    assert from_arguments(flags, {}).redis == redis


def test_nodes_of_ones_own_need_no_node_class() -> None:
    assert Settings(provisioner="byo").node_class is None
    assert Settings(provider="aws").node_class is not None


def test_claims_on_azure_are_gpu_provisioners() -> None:
    kinds = {p: Settings(provider=p, provisioner="nodeclaim").node_class.kind for p in ("azure", "aws")}
    assert kinds == {"azure": "KaitoNodeClass", "aws": "EC2NodeClass"}


def test_two_operators_on_one_host_are_not_mistaken_for_each_other() -> None:
    assert from_arguments([], {}).identity != from_arguments([], {}).identity
