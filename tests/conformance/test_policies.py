"""NetworkPolicy and PodDisruptionBudget: defaults, rules between fields, and how kubectl shows them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import Kubectl
from tests.conformance.test_kubectl import rows

POD = {"podSelector": {"matchLabels": {"app": "a"}}}


def network_policy(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {**POD, **spec},
    }


def budget(**spec: Any) -> dict[str, Any]:
    selector = {"matchLabels": {"app": "a"}}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"selector": selector, **spec},
    }


def test_a_network_policy_says_what_was_left_out(kubectl: Kubectl) -> None:
    kubectl.apply(network_policy(ingress=[{"ports": [{"port": 80}]}], egress=[{"to": [{"podSelector": {}}]}]))
    spec = kubectl.json("get", "netpol", "p")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"][0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    assert spec["egress"] == [{"to": [{"podSelector": {}}]}]
    assert rows(kubectl("get", "netpol").out)[0] == ["NAME", "POD-SELECTOR", "AGE"]
    assert rows(kubectl("get", "netpol").out)[1][:2] == ["p", "app=a"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"ingress": [{"from": [{}]}]}, "spec.ingress[0].from[0]: Required value: must specify a peer", id="no peer"),
        pytest.param({"ingress": [{"from": [{**POD, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}, "may not specify both ipBlock and another peer", id="both"),
        pytest.param({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}]}, "spec.ingress[0].from[0].ipBlock.cidr: Invalid value", id="cidr"),
        pytest.param({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}, "must be a strict subset of `cidr`", id="except"),
        pytest.param({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]}, "must be a strict subset of `cidr`", id="except all"),
        pytest.param({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}]}]}, "must be a strict subset of `cidr`", id="except of the other family"),
        pytest.param({"ingress": [{"ports": [{"port": 70000}]}]}, "must be between 1 and 65535, inclusive", id="port"),
        pytest.param({"ingress": [{"ports": [{"port": 80, "endPort": 79}]}]}, "must be greater than or equal to `port`", id="range"),
        pytest.param({"ingress": [{"ports": [{"port": "http", "endPort": 79}]}]}, "`port` is non-numeric", id="range of a name"),
        pytest.param({"ingress": [{"ports": [{"port": 80, "protocol": "ICMP"}]}]}, 'Unsupported value: "ICMP"', id="protocol"),
        pytest.param({"policyTypes": ["Sideways"]}, 'Unsupported value: "Sideways"', id="type"),
        pytest.param({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "must be specified when `operator` is 'In' or 'NotIn'", id="selector"),
    ],
)  # fmt: skip
def test_a_network_policy_that_makes_no_sense_is_refused(kubectl: Kubectl, spec: dict[str, Any], words: str) -> None:
    assert words in kubectl.apply(network_policy(**spec), fails=True).err


def test_a_disruption_budget_is_shown_with_what_it_allows(kubectl: Kubectl) -> None:
    kubectl.apply(budget(minAvailable=1))
    table = rows(kubectl("get", "pdb").out)
    assert table[0] == ["NAME", "MIN AVAILABLE", "MAX UNAVAILABLE", "ALLOWED DISRUPTIONS", "AGE"]
    assert table[1][:4] == ["b", "1", "N/A", "0"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"minAvailable": 1, "maxUnavailable": 1}, "minAvailable and maxUnavailable cannot be both set", id="both"),
        pytest.param({"minAvailable": -1}, "must be greater than or equal to 0", id="negative"),
        pytest.param({"minAvailable": "some"}, "must be an integer or percentage", id="word"),
        pytest.param({"maxUnavailable": "101%"}, "must not be greater than 100%", id="percentage"),
        pytest.param({"unhealthyPodEvictionPolicy": "Never"}, 'Unsupported value: "Never"', id="policy"),
    ],
)  # fmt: skip
def test_a_disruption_budget_that_makes_no_sense_is_refused(kubectl: Kubectl, spec: dict[str, Any], words: str) -> None:
    assert words in kubectl.apply(budget(**spec), fails=True).err
