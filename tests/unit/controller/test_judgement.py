"""Without a webhook the same rules hold: each look at a Workspace says in a condition and an Event what breaks one."""

from typing import Any

import pytest

from kaito_ray.controller.judgement import ACCEPTED
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import EVENTS, NODES, RAY_JOBS, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import TUNING, node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas
from tests.contract.test_admission_docs import REFUSED

LOCAL = Settings(provider="local")


class Stage:
    """A cluster that has no webhook, and the operator's looks at one Workspace."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()

    async def stored(self, manifest: Manifest) -> None:
        await self.cluster.create(NODES, node())
        push = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "push"},
            "data": {".dockerconfigjson": "e30="},
        }
        await self.cluster.create(SECRETS, push)
        await self.cluster.create(WORKSPACES, manifest)

    async def edited(self, manifest: Manifest) -> None:
        """Write the manifest over the stored one."""
        old = await self.workspace(manifest["metadata"]["name"])
        meta = {**old["metadata"], "annotations": manifest["metadata"].get("annotations", {})}
        await self.cluster.replace(WORKSPACES, {**manifest, "metadata": meta, "status": old["status"]})

    async def workspace(self, name: str = "smol") -> Manifest:
        found = await self.cluster.get(WORKSPACES, name, "default")
        assert found is not None
        return found

    async def looked(self, name: str = "smol") -> Manifest:
        await reconcile(self.cluster, FakeReplicas(), Key("default", name), LOCAL)
        return await self.workspace(name)

    async def served(self) -> Manifest:
        await self.looked()
        service = await self.cluster.get(RAY_SERVICES, "smol", "default")
        assert service is not None
        await self.cluster.replace_status(RAY_SERVICES, {**service, "status": ready_ray_service_status()})
        return await self.looked()

    async def warnings(self) -> str:
        return " ".join(e["message"] for e in await self.cluster.list(EVENTS) if e["type"] == "Warning")


def messages(manifest: Manifest) -> str:
    return " ".join(condition["message"] for condition in manifest["status"]["conditions"])


@pytest.mark.parametrize("rule", REFUSED)
async def test_every_rule_of_admission_reaches_the_status_and_an_event(rule: str) -> None:
    field, new, old = REFUSED[rule]
    stage, name = Stage(), new["metadata"]["name"]
    await stage.stored(old or new)
    if old is not None:
        await stage.looked(name)
        assert field not in messages(await stage.workspace(name))
        await stage.edited(new)
    seen = await stage.looked(name)
    assert field in messages(seen)
    assert seen["status"]["reason"]
    assert field in await stage.warnings()
    before = len(stage.cluster.writes)
    await stage.looked(name)
    assert stage.cluster.writes[before:] == []


async def test_every_reason_is_given_at_once() -> None:
    stage = Stage()
    annotations = {"kaito.sh/performance-mode": "fast", "kaito.sh/bypass-resource-checks": "true"}
    await stage.stored(workspace(metadata={"annotations": annotations}))
    seen = messages(await stage.looked())
    assert "performance-mode" in seen and "bypass-resource-checks" in seen
    assert await stage.cluster.list(RAY_SERVICES) == []


async def test_what_runs_goes_on_and_an_edit_taken_back_is_forgotten() -> None:
    stage = Stage()
    await stage.stored(workspace())
    await stage.served()
    (before,) = await stage.cluster.list(RAY_SERVICES)
    await stage.edited(workspace(resource={"count": 2}))
    seen = await stage.looked()
    assert "which is refused: resource.count" in messages(seen)
    assert [c["status"] for c in seen["status"]["conditions"] if c["type"] == "InferenceReady"] == ["True"]
    assert await stage.cluster.list(RAY_SERVICES) == [before]
    await stage.edited(workspace())
    assert "refused" not in messages(await stage.looked())


async def test_a_tuning_job_goes_on_beside_an_edit_that_is_refused() -> None:
    stage = Stage()
    await stage.stored(workspace(inference=None, tuning=TUNING))
    before = await stage.looked()
    await stage.edited(workspace(inference=None, tuning={**TUNING, "method": "lora"}))
    seen = await stage.looked()
    assert "as before the last edit, which is refused: tuning.method" in messages(seen)
    assert seen["status"]["state"] == before["status"]["state"] == "Running"
    assert len(await stage.cluster.list(RAY_JOBS)) == 1


@pytest.mark.parametrize("mark", [None, "{"])
async def test_what_serves_since_before_such_marks_is_not_judged(mark: str | None) -> None:
    """As after an upgrade to an operator with one rule more."""
    stage = Stage()
    await stage.stored(workspace())
    await stage.served()
    service = await stage.cluster.get(RAY_SERVICES, "smol", "default")
    assert service is not None
    kept: dict[str, Any] = {k: v for k, v in service["metadata"]["annotations"].items() if k != ACCEPTED}
    marked = {**kept, **({ACCEPTED: mark} if mark else {})}
    await stage.cluster.replace(RAY_SERVICES, {**service, "metadata": {**service["metadata"], "annotations": marked}})
    await stage.edited(workspace(inference={"preset": {"name": "SmolLM2-135M-Instruct"}}))
    assert "refused" not in messages(await stage.looked())
    (after,) = await stage.cluster.list(RAY_SERVICES)
    assert ACCEPTED in after["metadata"]["annotations"]
