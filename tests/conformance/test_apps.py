"""Deployments and StatefulSets as an API server keeps them; whether anybody runs their pods is not asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import Kubectl

Manifest = dict[str, Any]


def replicated(kind: str, **container: Any) -> Manifest:
    labels = {"app": "a"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "c:1", **container}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "one"}, "spec": spec}


@pytest.mark.parametrize(("kind", "ready"), [("Deployment", "0/0"), ("StatefulSet", "0/0")])
def test_it_is_kept_with_defaults_listed_and_edited(kubectl: Kubectl, kind: str, ready: str) -> None:
    kubectl.apply(replicated(kind))
    assert kubectl("get", kind.lower(), "one", "--no-headers").out.split()[:2] == ["one", ready]
    kubectl("set", "image", f"{kind.lower()}/one", "c=c:2")
    container = kubectl.json("get", kind.lower(), "one")["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("c:2", "IfNotPresent")


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_selector_that_misses_its_pods_is_refused(kubectl: Kubectl, kind: str) -> None:
    wrong = replicated(kind)
    wrong["spec"]["template"]["metadata"]["labels"] = {"app": "b"}
    assert "does not match template `labels`" in kubectl.apply(wrong, fails=True).err


def test_a_field_that_nobody_knows_is_refused_where_that_is_asked_for(kubectl: Kubectl) -> None:
    typo = replicated("Deployment", imagez="c:1")
    assert 'unknown field "spec.template.spec.containers[0].imagez"' in kubectl.apply(typo, fails=True).err
