"""Every test of the operator is a test of its rights: what it asks of the fake cluster, the chart must allow."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kaito_ray.kube.cluster import Resource
from kaito_ray.testing.fake_cluster import FakeCluster
from tests.chart import EVERYWHERE, NAMESPACE, Request, allowed, render

VERBS = {
    "get": "get",
    "list": "list",
    "create": "create",
    "replace": "update",
    "replace_status": "update",
    "delete": "delete",
}
OWN = ("leases",)
"""Kinds that the operator keeps in its own namespace, wherever a test says that is."""
ON_A_LAPTOP = ("create", "validatingwebhookconfigurations")
"""In a cluster the chart makes it, and the operator has no right to; `kaito-ray up` has no chart."""


@pytest.fixture(autouse=True)
def only_what_the_chart_allows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module may name another PROVISIONER than the chart's default: then it has the rights for that one alone."""
    roles = render({**EVERYWHERE, "provisioner": getattr(request.module, "PROVISIONER", "karpenter")})

    def guarded(method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def call(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"].startswith("kaito_ray."):
                asked = signature.bind(*args, **kwargs).arguments
                wanted = asked_for(method, asked)
                on_a_laptop = (wanted.verb, wanted.resource) == ON_A_LAPTOP
                assert on_a_laptop or allowed(roles, wanted), f"the chart does not allow {wanted}"
            return original(*args, **kwargs)

        return call

    for method in VERBS:
        monkeypatch.setattr(FakeCluster, method, guarded(method, getattr(FakeCluster, method)))


def asked_for(method: str, asked: dict[str, Any]) -> Request:
    resource: Resource = asked["resource"]
    meta = asked["manifest"]["metadata"] if "manifest" in asked else asked
    plural = f"{resource.plural}/status" if method == "replace_status" else resource.plural
    namespace = NAMESPACE if plural in OWN else meta.get("namespace") or ""
    return Request(VERBS[method], resource.group, plural, namespace, meta.get("name", ""))
