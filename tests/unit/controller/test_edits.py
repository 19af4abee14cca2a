"""Every edit of a serving Workspace is applied in place, rolled out or refused, as docs/edits.md says, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.api.admission import refusals
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.kube.cluster import CONFIG_MAPS, DEPLOYMENTS, NODES, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import adapter, merged, node, ready_ray_service_status, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

PAGE = Path(__file__).parents[3] / "docs" / "edits.md"
SETTINGS = Settings(provider="local", worker_image="registry.example.com/worker:1")
IN_PLACE, ROLLED_OUT, REFUSED, NOTHING = "in place", "rolled out", "refused", "nothing to do"
EDITS: dict[str, Manifest] = {
    "resource.labelSelector": {"resource": {"labelSelector": {"matchLabels": {"apps": "other"}}}},
    "resource.instanceType": {"resource": {"instanceType": "local"}},
    "resource.count": {"resource": {"count": 2}},
    "inference.preset.name": {"inference": {"preset": {"name": "all-MiniLM-L6-v2"}}},
    "inference.preset.revision": {"inference": {"preset": {"revision": "abc"}}},
    "inference.preset.trustRemoteCode": {"inference": {"preset": {"trustRemoteCode": True}}},
    "inference.preset.presetOptions.modelAccessSecret": {
        "inference": {"preset": {"presetOptions": {"modelAccessSecret": "token"}}}
    },
    "inference.config": {"inference": {"config": "mine"}},
    "inference.autoscaling": {"inference": {"autoscaling": {"minReplicas": 0, "maxReplicas": 2}}},
    "inference.autoscaling.minReplicas": {"inference": {"autoscaling": {"minReplicas": 0}}},
    "inference.autoscaling.maxReplicas": {"inference": {"autoscaling": {"maxReplicas": 3}}},
    "inference.autoscaling.targetOngoingRequests": {"inference": {"autoscaling": {"targetOngoingRequests": 9}}},
    "inference.adapters": {"inference": {"adapters": [adapter()]}},
    "inference.adapters[].strength": {"inference": {"adapters": [adapter(strength="0.5")]}},
    "tuning": {"tuning": {"preset": {"name": "smollm2-135m-instruct"}}, "inference": None},
    "annotation kaito.sh/enablelb": {"metadata": {"annotations": {"kaito.sh/enablelb": "True"}}},
    "annotation ray.kaito.sh/retry": {"metadata": {"annotations": {"ray.kaito.sh/retry": "1"}}},
    "annotation ray.kaito.sh/worker-image": {"metadata": {"annotations": {"ray.kaito.sh/worker-image": "w:2"}}},
}
"""Field -> an edit of the smallest serving Workspace."""
SCALED = workspace(inference={"autoscaling": {"maxReplicas": 2}})
BASES = {f"inference.autoscaling.{field}": SCALED for field in ("minReplicas", "maxReplicas", "targetOngoingRequests")}
"""Field -> the Workspace that is edited, where the smallest has not got the field."""


def own_pod(image: str) -> Manifest:
    return {"preset": None, "template": {"spec": {"containers": [{"name": "server", "image": image}]}}}


def rows() -> dict[str, str]:
    cells = [
        [cell.strip() for cell in line.split("|")[1:3]]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    ]
    return {field.strip("`"): outcome for field, outcome in cells}


async def outcome(edit: Manifest, base: Manifest, machine: Manifest, settings: Settings) -> str:
    """Serve, edit, and tell what came of it."""
    cluster = FakeCluster()
    await cluster.create(NODES, machine)
    data = {"inference_config.yaml": "vllm:\n  max-model-len: 1024\n"}
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "mine", "namespace": "default"}, "data": data})
    await cluster.create(SECRETS, {"metadata": {"name": "token", "namespace": "default"}, "data": {"HF_TOKEN": "eA=="}})
    await cluster.create(WORKSPACES, base)
    await looked_at(cluster, settings)
    served = await cluster.get(RAY_SERVICES, "smol", "default")
    old = await cluster.get(WORKSPACES, "smol", "default")
    assert served is not None and old is not None
    await cluster.replace_status(RAY_SERVICES, {**served, "status": ready_ray_service_status()})
    new = merged(old, edit)
    if refusals(new, old):
        return REFUSED
    await cluster.replace(WORKSPACES, new)
    first = len(cluster.writes)
    await looked_at(cluster, settings)
    now = await cluster.get(RAY_SERVICES, "smol", "default")
    assert now is not None
    args = [_without_user_config(one) for one in (served, now)]
    if now["spec"]["rayClusterConfig"] != served["spec"]["rayClusterConfig"] or args[0] != args[1]:
        return ROLLED_OUT
    spec_written = [w for w in cluster.writes[first:] if w.verb == "replace" and w.kind in ("RayService", "Service")]
    return IN_PLACE if spec_written else NOTHING


async def looked_at(cluster: FakeCluster, settings: Settings) -> None:
    await reconcile(cluster, FakeReplicas(), Key("default", "smol"), settings)


def _without_user_config(service: Manifest) -> Any:
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    return [{k: v for k, v in one.items() if k != "deployments"} for one in config["applications"]]


@pytest.mark.parametrize("field", EDITS)
async def test_an_edit_does_what_the_page_says(field: str) -> None:
    base = BASES.get(field, workspace())
    assert await outcome(EDITS[field], base, node(), SETTINGS) == rows()[field]


@pytest.mark.parametrize("field", BASES)
async def test_on_gpus_replicas_come_and_go_in_place_too(field: str) -> None:
    mine = node(gpus=1, metadata={"labels": {"apps": "smol"}})
    settings = Settings(provider="azure", provisioner="byo", worker_image=SETTINGS.worker_image)
    assert await outcome(EDITS[field], SCALED, mine, settings) == IN_PLACE


async def test_a_pod_of_ones_own_is_rolled_out() -> None:
    cluster = FakeCluster()
    await cluster.create(NODES, node(metadata={"labels": {"apps": "smol"}}))
    old = await cluster.create(WORKSPACES, workspace(inference=own_pod("server:1")))
    settings = Settings(provisioner="byo")
    for image in ("server:1", "server:2"):
        new = merged(old, {"inference": own_pod(image)})
        assert refusals(new, old) == []
        live = await cluster.get(WORKSPACES, "smol", "default")
        assert live is not None
        await cluster.replace(WORKSPACES, merged(live, {"inference": own_pod(image)}))
        await reconcile(cluster, FakeReplicas(), Key("default", "smol"), settings)
        pods = await cluster.get(DEPLOYMENTS, "smol", "default")
        assert pods is not None
        assert pods["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert rows()["inference.template"] == ROLLED_OUT


def test_the_page_has_a_row_for_every_edit_that_is_tried_and_no_other() -> None:
    assert set(rows()) == {*EDITS, "inference.template"}
