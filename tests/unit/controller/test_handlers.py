"""What kopf is used for, and what of it stays off."""

from pathlib import Path

from kaito_ray.controller.handlers import Watches, kopf_settings, registry
from kaito_ray.controller.queue import WorkQueue
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.webhook import Webhook
from kaito_ray.testing.fake_cluster import FakeCluster

LOCAL = Settings(provider="local", kubeconfig=Path("kubeconfig"))


def watched(settings: Settings) -> set[str]:
    found = registry(Watches(WorkQueue()), settings)
    return {str(handler.selector.any_name) for handler in found._watching.get_all_handlers() if handler.selector}


def test_kopf_watches_and_judges_and_nothing_else() -> None:
    found = registry(Watches(WorkQueue()), LOCAL)
    assert list(found._changing.get_all_handlers()) == []
    assert list(found._spawning.get_all_handlers()) == []
    assert {tuple(handler.operations or ()) for handler in found._webhooks.get_all_handlers()} == {("CREATE", "UPDATE")}


def test_kopf_writes_nothing() -> None:
    settings = kopf_settings(Webhook(FakeCluster(), LOCAL))
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.admission.managed is None


def test_everything_that_a_decision_depends_on_is_watched() -> None:
    everywhere = {"workspaces", "rayservices", "rayjobs", "deployments", "services", "secrets", "configmaps", "pods"}
    everywhere |= {"networkpolicies", "poddisruptionbudgets"}
    assert watched(LOCAL) == everywhere | {"nodepools", "nodes"}
    assert watched(Settings(provider="azure")) == everywhere | {"nodepools"}
    assert watched(Settings(provider="azure", provisioner="nodeclaim")) == everywhere
    assert watched(Settings(provider="azure", provisioner="byo")) == everywhere | {"nodes"}
