"""The operator's rights, listed: a change of this list is a change of what a platform team signs.

That they suffice is seen by `tests/unit/controller/conftest.py` and `tests/e2e/controller/test_rights.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from kaito_ray.controller.handlers import Watches, registry
from kaito_ray.controller.queue import WorkQueue
from kaito_ray.controller.settings import Settings
from tests.chart import EVERYWHERE, NAMESPACE, Request, allowed, one, render

IN_NAMESPACES = {
    "kaito.sh workspaces: get list watch update",
    "kaito.sh workspaces/status: update",
    "kaito.sh workspaces/finalizers: update",
    "ray.io rayservices: get list watch create update delete",
    "ray.io rayjobs: get list watch create update delete",
    "apps deployments: get list watch create update delete",
    " services: get list watch create update",
    "networking.k8s.io networkpolicies: get list watch create update",
    "policy poddisruptionbudgets: get list watch create update",
    " configmaps: get list watch",
    " persistentvolumeclaims: get create",
    " serviceaccounts: get",
    " pods: list watch",
    " events: get list create update",
    " secrets: get list watch create update",
}
OF_THE_CLUSTER = {
    " nodes: get list watch",
    "karpenter.sh nodepools: get list watch create update delete",
    "karpenter.sh nodeclaims: list watch delete",
    "apiextensions.k8s.io customresourcedefinitions[workspaces.kaito.sh]: get",
    "admissionregistration.k8s.io validatingwebhookconfigurations: list",
    "admissionregistration.k8s.io validatingwebhookconfigurations[kaito-ray]: get update",
}
IN_ITS_OWN = {
    "coordination.k8s.io leases: create",
    "coordination.k8s.io leases[kaito-ray-operator]: get update",
    " secrets: create",
    " secrets[kaito-ray-webhook-cert]: get update",
}
NAMESPACED = {"watchNamespaces": ["team-a"], "rbac": {"clusterScoped": True}}


def rights(role: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for rule in role["rules"]:
        named = f"[{','.join(rule['resourceNames'])}]" if "resourceNames" in rule else ""
        for group in rule["apiGroups"]:
            found |= {f"{group} {resource}{named}: {' '.join(rule['verbs'])}" for resource in rule["resources"]}
    return found


def test_everywhere_it_has_these_rights_and_no_other() -> None:
    assert rights(one(render(EVERYWHERE), "ClusterRole")) == IN_NAMESPACES | OF_THE_CLUSTER
    assert rights(one(render(EVERYWHERE), "Role")) == IN_ITS_OWN


def test_in_named_namespaces_it_has_the_same_there_and_nothing_elsewhere() -> None:
    manifests = render(NAMESPACED)
    assert rights(one(manifests, "Role", "kaito-ray")) == IN_NAMESPACES
    assert rights(one(manifests, "ClusterRole")) == OF_THE_CLUSTER
    secret = Request("get", "", "secrets", "team-a", "any")
    assert allowed(manifests, secret)
    assert not allowed(manifests, Request("get", "", "secrets", "team-b", "any"))
    assert not allowed(manifests, Request("get", "", "secrets", NAMESPACE, "any"))


def test_nobody_may_do_everything() -> None:
    for values in (EVERYWHERE, NAMESPACED):
        for role in render(values):
            for rule in role.get("rules") or ():
                assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
                assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_with_own_nodes_it_touches_nothing_of_karpenters() -> None:
    found = rights(one(render({**EVERYWHERE, "provisioner": "byo"}), "ClusterRole"))
    assert not [right for right in found if right.startswith("karpenter.sh")]


def test_with_claims_of_its_own_it_has_rights_on_those_and_on_no_pool() -> None:
    found = rights(one(render({**EVERYWHERE, "provisioner": "nodeclaim"}), "ClusterRole"))
    mine = [right for right in found if right.startswith("karpenter.sh")]
    assert mine == ["karpenter.sh nodeclaims: list watch create update delete"]


def test_every_binding_binds_the_operator_alone_to_a_role_that_exists() -> None:
    manifests = render(NAMESPACED)
    roles = {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests if "rules" in m}
    account = one(manifests, "ServiceAccount")["metadata"]
    for binding in (m for m in manifests if m["kind"].endswith("Binding") and "roleRef" in m):
        assert (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"]) in roles
        assert [(s["name"], s["namespace"]) for s in binding["subjects"]] == [(account["name"], account["namespace"])]
    (pod,) = (m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment")
    assert pod["serviceAccountName"] == account["name"]


@pytest.mark.parametrize("provisioner", ["karpenter", "nodeclaim", "byo"])
def test_it_may_watch_all_that_it_watches(provisioner: Any) -> None:
    settings = Settings(provisioner=provisioner)
    watched = registry(Watches(WorkQueue()), settings)._watching.get_all_handlers()
    roles = render({**EVERYWHERE, "provisioner": provisioner})
    selectors = [handler.selector for handler in watched if handler.selector]
    assert len(selectors) > 4
    for selector in selectors:
        for verb in ("list", "watch"):
            assert allowed(
                roles, Request(verb, selector.group or "", str(selector.plural or selector.any_name), "any")
            ), selector
