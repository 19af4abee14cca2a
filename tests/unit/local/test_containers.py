import base64

import pytest

from kaito_ray.local import containers
from kaito_ray.local.containers import MissingReference

POD = {"metadata": {"name": "phi-head", "namespace": "team", "labels": {"a/b": "c"}}, "spec": {}}


def environment(container, secrets=None, config_maps=None):
    return containers.environment(POD, container, secret=(secrets or {}).get, config_map=(config_maps or {}).get)


def test_plain_values_and_references_to_earlier_ones():
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(UNKNOWN)-$$(A)"}, {"name": "C"}]

    assert environment({"env": env}) == {"A": "1", "B": "1-$(UNKNOWN)-$(A)", "C": ""}


def test_values_from_secrets_config_maps_and_the_pod_itself():
    env = [
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a/b']"}}},
        {"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]

    found = environment({"env": env}, {"s": {"k": b"secret"}}, {"m": {"k": b"plain"}})

    assert found == {"S": "secret", "M": "plain", "N": "phi-head", "L": "c", "I": "127.0.0.1"}


def test_whole_secrets_become_variables_and_named_ones_win():
    container = {"envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}], "env": [{"name": "P_a", "value": "own"}]}

    assert environment(container, {"s": {"a": b"1", "b": b"2"}}) == {"P_a": "own", "P_b": "2"}


@pytest.mark.parametrize("secrets", [{}, {"s": {"other": b""}}])
def test_a_missing_secret_or_key_is_named(secrets):
    env = [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]

    with pytest.raises(MissingReference, match="'s'"):
        environment({"env": env}, secrets)


def test_an_optional_reference_may_be_missing():
    env = [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}]

    assert environment({"env": env}) == {}


def test_content_of_secrets_and_config_maps():
    secret = {"kind": "Secret", "data": {"a": base64.b64encode(b"\xff").decode()}}
    config_map = {"kind": "ConfigMap", "data": {"a": "text"}}

    assert containers.content(secret) == {"a": b"\xff"}
    assert containers.content(config_map) == {"a": b"text"}
