"""Who may reach the pods of a Workspace, and what the drain of a node may do to them."""

from typing import Any

import pytest

from kaito_ray.api.workspace import Workspace
from kaito_ray.render.disruption import disruption_budget
from kaito_ray.render.networkpolicy import network_policy
from kaito_ray.testing.builders import TUNING, Manifest, workspace
from tests.chart import EVERYWHERE, one, render

SERVE, DASHBOARD, GCS, CLIENT = 8000, 8265, 6379, 10001


def read(**changes: Any) -> Workspace:
    return Workspace.from_wire(workspace(metadata={"uid": "uid-1"}, **changes))


def callers(policy: Manifest, port: int, *, same_namespace: bool, labels: dict[str, str]) -> bool:
    """Return whether a pod with these labels, in this or another namespace, reaches the port."""

    def is_from(peer: Manifest) -> bool:
        wanted = peer["podSelector"].get("matchLabels", {})
        return ("namespaceSelector" in peer or same_namespace) and wanted.items() <= labels.items()

    rules = policy["spec"]["ingress"]
    through = [rule for rule in rules if port in [p["port"] for p in rule.get("ports", [{"port": port}])]]
    return any("from" not in rule or any(map(is_from, rule["from"])) for rule in through)


OWN = {"kaito.sh/workspace": "smol", "kaito.sh/workspacenamespace": "default"}
KUBERAY = {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/component": "kuberay-operator"}


@pytest.mark.parametrize(
    ("labels", "same_namespace", "reached"),
    [
        pytest.param(OWN, True, {SERVE, DASHBOARD, GCS, CLIENT}, id="its own pods"),
        pytest.param({"app": "web"}, True, {SERVE}, id="a pod of its namespace"),
        pytest.param({"app": "web"}, False, set(), id="a pod of another namespace"),
        pytest.param(OWN, False, set(), id="one of another namespace with its labels"),
        pytest.param(KUBERAY, False, {SERVE, DASHBOARD}, id="KubeRay"),
    ],
)
def test_without_keys_the_model_is_for_its_namespace_and_ray_for_ray(
    labels: dict[str, str], same_namespace: bool, reached: set[int]
) -> None:
    policy = network_policy(read())
    ports = (SERVE, DASHBOARD, GCS, CLIENT)
    assert {p for p in ports if callers(policy, p, same_namespace=same_namespace, labels=labels)} == reached


def test_our_own_operator_reaches_what_it_asks() -> None:
    labels = one(render(EVERYWHERE), "Deployment")["spec"]["template"]["metadata"]["labels"]
    for port in (SERVE, DASHBOARD):
        assert callers(network_policy(read()), port, same_namespace=False, labels=labels)


def test_with_keys_anybody_may_call_and_ray_stays_closed() -> None:
    policy = network_policy(read(inference={"apiKeysSecret": "keys"}))
    assert callers(policy, SERVE, same_namespace=False, labels={})
    assert not callers(policy, DASHBOARD, same_namespace=True, labels={})


def test_a_tuning_job_is_called_by_nobody() -> None:
    policy = network_policy(read(inference=None, tuning=TUNING))
    assert not callers(policy, SERVE, same_namespace=True, labels={})
    assert callers(policy, DASHBOARD, same_namespace=False, labels=KUBERAY)
    assert callers(policy, GCS, same_namespace=True, labels=OWN)


def test_what_goes_out_is_not_limited() -> None:
    assert network_policy(read())["spec"]["policyTypes"] == ["Ingress"]


@pytest.mark.parametrize("pods", [1, 4])
def test_no_pod_of_a_working_model_is_evicted(pods: int) -> None:
    spec = disruption_budget(read(), pods)["spec"]
    assert spec["minAvailable"] == pods
    assert spec["selector"] == {"matchLabels": OWN}


def test_a_broken_pod_may_go_unless_it_may_be_half_of_a_model() -> None:
    policies = [disruption_budget(read(), pods)["spec"]["unhealthyPodEvictionPolicy"] for pods in (1, 2)]
    assert policies == ["AlwaysAllow", "IfHealthyBudget"]
