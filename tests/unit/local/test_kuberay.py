"""RayService, RayJob and RayCluster as KubeRay carries them out, on a fake API server and a fake Ray."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
import yaml

from kaito_ray.errors import ApiUnavailable
from kaito_ray.kube.cluster import EVENTS, PODS, RAY_CLUSTERS, RAY_JOBS, RAY_SERVICES, SECRETS, SERVICES, Manifest
from kaito_ray.local import stopwatch
from kaito_ray.local.home import Home
from kaito_ray.local.kubelet import FINALIZER
from kaito_ray.local.objects import Objects
from kaito_ray.local.ray_clusters import RayClusters
from kaito_ray.local.raycluster_controller import RayClusterController
from kaito_ray.local.rayjob_controller import RayJobController
from kaito_ray.local.rayservice_controller import RayServiceController
from kaito_ray.local.stopwatch import Stopwatches
from kaito_ray.testing.fake_cluster import FakeCluster
from tests.unit.local.fake_ray import FakeAccess
from tests.unit.local.manifests import cluster_spec, ray_job, ray_service

KINDS = (RAY_SERVICES, RAY_JOBS, RAY_CLUSTERS, PODS, SERVICES, SECRETS)


@dataclass
class World:
    """Everything around the controllers; `step` lets each of them act once on every object."""

    cluster: FakeCluster
    objects: Objects
    home: Home
    ray: FakeAccess = field(default_factory=FakeAccess)
    now: float = 0.0
    _suffixes: int = 0

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """As after a crash of the agent: what it kept in memory is lost."""
        clusters = RayClusters(self.objects, self.ray, self._suffix)
        self._controllers = (
            (RAY_SERVICES, RayServiceController(self.objects, clusters, clock=lambda: self.now)),
            (RAY_JOBS, RayJobController(self.objects, clusters, Stopwatches(lambda: self.now))),
            (RAY_CLUSTERS, RayClusterController(self.home, self.objects, clusters, "this", 4)),
        )

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            for resource, controller in self._controllers:
                for item in self.objects.all(resource):
                    await controller.reconcile(item)
            await self.settle()

    async def settle(self) -> None:
        """Let the watches bring what was written."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def head_ready(self, *, ready: bool = True) -> None:
        """What the kubelet does."""
        for pod in await self.cluster.list(PODS):
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
            await self.objects.replace_status(PODS, self.objects.get(PODS, pod["metadata"]["name"], "default"), status)

    async def pods_stopped(self) -> None:
        """The kubelet lets go of pods that are being deleted."""
        for pod in await self.cluster.list(PODS):
            if "deletionTimestamp" in pod["metadata"]:
                pod["metadata"]["finalizers"].remove(FINALIZER)
                await self.cluster.replace(PODS, pod)
        await self.settle()

    async def edit(self, **spec: Any) -> None:
        service = self.objects.get(RAY_SERVICES, "phi", "default")
        await self.objects.replace(RAY_SERVICES, {**service, "spec": {**service["spec"], **spec}})

    async def service(self) -> Manifest:
        return await self.cluster.get(RAY_SERVICES, "phi", "default")

    async def names(self, resource) -> list[str]:
        return sorted(item["metadata"]["name"] for item in await self.cluster.list(resource))

    async def reasons(self) -> list[str]:
        return [event["reason"] for event in await self.cluster.list(EVENTS)]

    def _suffix(self) -> str:
        self._suffixes += 1
        return f"{self._suffixes:05d}"


@pytest_asyncio.fixture
async def world(follow, tmp_path) -> AsyncIterator[World]:
    cluster = FakeCluster()
    return World(cluster, await follow(cluster, *KINDS), Home.at(tmp_path))


async def serving(world: World) -> World:
    """A RayService whose application runs."""
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    await world.step(2)
    await world.head_ready()
    await world.step()
    world.ray.only.settle()
    await world.step(2)
    return world


def condition(item: Manifest, type_: str) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in item["status"]["conditions"] if c["type"] == type_)


async def test_a_new_service_gets_one_pending_cluster_with_secret_service_and_head_pod(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()

    await world.step(3)

    (cluster,) = await world.names(RAY_CLUSTERS)
    (pod,) = await world.cluster.list(PODS)
    status = (await world.service())["status"]
    assert status["pendingServiceStatus"]["rayClusterName"] == cluster
    assert status["activeServiceStatus"] == {}
    assert await world.names(SECRETS) == [cluster]
    assert await world.names(SERVICES) == [f"{cluster}-head-svc"]
    assert pod["metadata"]["name"].startswith(f"{cluster}-head-")
    assert pod["metadata"]["labels"]["ray.io/cluster"] == cluster
    assert pod["metadata"]["labels"]["kaito.sh/workspace"] == "phi"
    assert condition(await world.service(), "Ready") == ("False", "Initializing")


async def test_ray_is_asked_only_once_its_head_is_ready_and_with_its_own_token(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    await world.step(3)
    assert world.ray.clusters == {}

    await world.head_ready()
    await world.step()

    secret = (await world.cluster.list(SECRETS))[0]
    assert world.ray.only.token == b64decode(secret["data"]["auth_token"]).decode() != ""


async def test_the_configuration_is_put_with_the_address_of_this_machine(world):
    await serving(world)

    (config,) = world.ray.only.configs
    pod = (await world.cluster.list(PODS))[0]
    port = next(p["hostPort"] for p in pod["spec"]["containers"][0]["ports"] if p["name"] == "serve")
    assert config["http_options"] == {"host": "127.0.0.1", "port": port}
    assert config["applications"][0]["import_path"] == "deployments.app:build_app"


async def test_progress_is_reported_as_pending_and_the_service_is_promoted_once_it_runs(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    await world.step(2)
    await world.head_ready()
    await world.step(2)
    deploying = (await world.service())["status"]["pendingServiceStatus"]["applicationStatuses"]["workspace"]

    world.ray.only.settle()
    await world.step(2)

    status = (await world.service())["status"]
    assert deploying["status"] == "DEPLOYING"
    assert status["pendingServiceStatus"] == {}
    active = status["activeServiceStatus"]["applicationStatuses"]["workspace"]
    assert active["status"] == "RUNNING"
    assert active["serveDeploymentStatuses"] == {"WorkspaceServer": {"status": "HEALTHY", "message": ""}}
    assert (status["numServeEndpoints"], status["serviceStatus"]) == (1, "Running")
    assert condition(await world.service(), "Ready") == ("True", "NonZeroServeEndpoints")
    assert condition(await world.service(), "UpgradeInProgress") == ("False", "NoPendingCluster")
    assert {"phi-head-svc", "phi-serve-svc"} <= set(await world.names(SERVICES))


async def test_at_rest_nothing_is_written_and_nothing_is_put(world):
    await serving(world)
    await world.step()
    writes = len(world.cluster.writes)

    await world.step(3)

    assert world.cluster.writes[writes:] == []
    assert len(world.ray.only.configs) == 1


async def test_a_changed_serve_config_goes_to_the_same_cluster_in_place(world):
    await serving(world)
    before = await world.names(RAY_CLUSTERS)

    await world.edit(serveConfigV2=yaml.safe_dump({"applications": [{"name": "workspace", "args": {"a": 1}}]}))
    await world.step(2)

    assert await world.names(RAY_CLUSTERS) == before
    assert world.ray.only.configs[-1]["applications"][0]["args"] == {"a": 1}
    assert len(world.ray.only.configs) == 2


async def test_any_other_change_makes_a_second_cluster_and_leads_traffic_there_once_it_runs(world):
    await serving(world)
    old = (await world.service())["status"]["activeServiceStatus"]["rayClusterName"]

    await world.edit(rayClusterConfig=cluster_spec(image="worker:2"))
    await world.step(3)
    during = (await world.service())["status"]
    assert await serving_pods(world) == [old]
    assert during["activeServiceStatus"]["rayClusterName"] == old
    assert condition(await world.service(), "UpgradeInProgress") == ("True", "BothActivePendingClustersExist")
    assert len(await world.names(RAY_CLUSTERS)) == 2

    await world.head_ready()
    await world.step()
    for ray in world.ray.clusters.values():
        ray.settle()
    await world.step(2)

    new = (await world.service())["status"]["activeServiceStatus"]["rayClusterName"]
    assert new in await serving_pods(world)
    assert new == during["pendingServiceStatus"]["rayClusterName"] != old
    serve = await world.cluster.get(SERVICES, "phi-serve-svc", "default")
    assert serve["spec"]["selector"]["ray.io/cluster"] == new


async def serving_pods(world: World) -> list[str]:
    """The clusters whose head pods Services select."""
    labels = [pod["metadata"]["labels"] for pod in await world.cluster.list(PODS)]
    return [found["ray.io/cluster"] for found in labels if found["ray.io/serve"] == "true"]


async def test_a_pending_cluster_gets_no_traffic_though_its_proxy_answers(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    await world.step(2)
    await world.head_ready()

    await world.step(2)
    assert await serving_pods(world) == []

    world.ray.only.settle()
    await world.step()
    assert len(await serving_pods(world)) == 1


async def test_while_only_the_dashboard_is_down_the_service_stays_ready(world):
    await serving(world)

    world.ray.only.down = True
    await world.step()

    assert condition(await world.service(), "Ready") == ("True", "NonZeroServeEndpoints")


async def test_the_old_cluster_goes_after_the_delay_and_not_before(world):
    await serving(world)
    old = await world.names(RAY_CLUSTERS)
    await world.edit(rayClusterConfig=cluster_spec(image="worker:2"))
    await world.step(2)
    await world.head_ready()
    await world.step()
    for ray in world.ray.clusters.values():
        ray.settle()
    await world.step(3)

    world.now = 29.0
    await world.step()
    assert set(old) < set(await world.names(RAY_CLUSTERS))
    world.now = 61.0
    await world.step(2)
    await world.pods_stopped()

    assert set(old).isdisjoint(await world.names(RAY_CLUSTERS))


async def test_what_kuberay_does_not_hash_starts_no_second_cluster(world):
    await serving(world)
    spec = {**cluster_spec(), "upgradeStrategy": {"type": "None"}}
    spec["headGroupSpec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists"}]

    await world.edit(rayClusterConfig=spec)
    await world.step(2)

    assert len(await world.names(RAY_CLUSTERS)) == 1


async def test_with_upgrades_off_a_cluster_change_is_left_alone(world):
    await serving(world)

    await world.edit(rayClusterConfig=cluster_spec(image="worker:2"), upgradeStrategy={"type": "None"})
    await world.step(2)

    assert len(await world.names(RAY_CLUSTERS)) == 1


async def test_a_restart_of_the_agent_makes_nothing_twice(world):
    await serving(world)
    before = {kind: await world.names(kind) for kind in KINDS}

    world.restart()
    await world.step(2)

    assert {kind: await world.names(kind) for kind in KINDS} == before


async def test_a_crash_between_naming_and_making_a_cluster_makes_one_cluster(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    # finalizer, name in the status, and then the server goes away
    world.objects._cluster = Fails(world.cluster, after=2)
    with pytest.raises(ApiUnavailable):
        await world.step()
    named = (await world.service())["status"]["pendingServiceStatus"]["rayClusterName"]

    world.objects._cluster = world.cluster
    world.restart()
    await world.step(2)

    assert await world.names(RAY_CLUSTERS) == [named]


class Fails:
    """A cluster whose writes fail after so many."""

    def __init__(self, cluster: FakeCluster, *, after: int) -> None:
        self._cluster, self._left = cluster, after

    def __getattr__(self, name: str) -> Any:
        async def write(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise ApiUnavailable("the server went away")
            return await getattr(self._cluster, name)(*args, **kwargs)

        return write


async def test_a_ray_that_was_restarted_gets_its_configuration_again(world):
    await serving(world)

    world.ray.only.details = {"applications": {}}
    await world.step()

    assert len(world.ray.only.configs) == 2


async def test_while_ray_does_not_answer_its_last_words_stand_and_the_endpoint_goes(world):
    await serving(world)

    await world.head_ready(ready=False)
    world.ray.silent = True
    await world.step(2)

    service = await world.service()
    assert service["status"]["activeServiceStatus"]["applicationStatuses"]["workspace"]["status"] == "RUNNING"
    assert condition(service, "Ready") == ("False", "ZeroServeEndpoints")
    assert (await world.cluster.list(PODS))[0]["metadata"]["labels"]["ray.io/serve"] == "false"


async def test_a_refused_configuration_is_told_once_and_tried_again_later(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.settle()
    await world.step(2)
    pod = (await world.cluster.list(PODS))[0]
    dashboard = next(p["hostPort"] for p in pod["spec"]["containers"][0]["ports"] if p["name"] == "dashboard")
    world.ray.connect(dashboard, "").refuse = "deployments.app cannot be imported"
    await world.head_ready()

    await world.step(3)
    assert (await world.reasons()).count("FailedToUpdateServeApplications") == 1

    world.ray.only.refuse = None
    await world.step()
    assert world.ray.only.configs == []
    world.now = 31.0
    await world.step()
    assert len(world.ray.only.configs) == 1


async def test_a_serve_config_that_is_not_yaml_is_told(world):
    await serving(world)

    await world.edit(serveConfigV2="{")
    await world.step(2)

    assert (await world.reasons()).count("FailedToUpdateServeApplications") == 1


async def test_a_deleted_service_goes_once_its_last_pod_is_gone(world):
    await serving(world)

    await world.cluster.delete(RAY_SERVICES, "phi", "default")
    await world.settle()
    await world.step(2)
    await world.pods_stopped()
    await world.step(2)

    for kind in KINDS:
        assert await world.names(kind) == []


async def test_a_suspended_service_has_no_cluster_and_comes_back(world):
    await serving(world)

    await world.edit(suspend=True)
    await world.step(2)
    await world.pods_stopped()
    await world.step(2)
    assert await world.names(RAY_CLUSTERS) == []
    assert condition(await world.service(), "Suspended") == ("True", "SuspendComplete")

    await world.edit(suspend=False)
    await world.step(2)
    assert len(await world.names(RAY_CLUSTERS)) == 1


async def test_a_head_pod_that_failed_for_good_is_replaced_with_other_ports(world):
    await serving(world)
    pod = (await world.cluster.list(PODS))[0]
    await world.objects.replace_status(PODS, pod, {"phase": "Failed", "reason": "PortsTaken"})

    await world.step()
    await world.pods_stopped()
    await world.step()

    (again,) = await world.cluster.list(PODS)
    assert again["metadata"]["name"] != pod["metadata"]["name"]


async def test_two_services_share_no_port(world):
    await world.cluster.create(RAY_SERVICES, ray_service())
    await world.cluster.create(RAY_SERVICES, ray_service("qwen"))
    await world.settle()

    await world.step(2)

    first, second = await world.cluster.list(PODS)
    ports = [{p["hostPort"] for p in pod["spec"]["containers"][0]["ports"]} for pod in (first, second)]
    assert ports[0].isdisjoint(ports[1])


async def test_worker_groups_are_refused_in_words(world):
    spec = {**cluster_spec(), "workerGroupSpecs": [{"groupName": "gpu", "replicas": 2}]}
    await world.cluster.create(RAY_SERVICES, ray_service(rayClusterConfig=spec))
    await world.settle()

    await world.step(2)

    (cluster,) = await world.cluster.list(RAY_CLUSTERS)
    assert condition(cluster, "ReplicaFailure") == ("True", "FailedCreateHeadPod")
    assert "'gpu' asks for more machines" in str(cluster["status"]["conditions"])
    assert await world.names(PODS) == []


async def job_of(world: World) -> Manifest:
    return await world.cluster.get(RAY_JOBS, "tune", "default")


async def running_job(world: World, **spec: Any) -> dict[str, Any]:
    await world.cluster.create(RAY_JOBS, ray_job(**spec))
    await world.settle()
    await world.step(2)
    await world.head_ready()
    await world.step(2)
    (job,) = world.ray.only.jobs.values()
    return job


async def test_a_job_is_submitted_once_to_a_cluster_of_its_own(world):
    job = await running_job(world, runtimeEnvYAML="env_vars: {A: '1'}", entrypointNumCpus=1)

    status = (await job_of(world))["status"]
    assert status["jobDeploymentStatus"] == "Running"
    assert job["submission_id"] == status["jobId"]
    assert (job["entrypoint"], job["entrypoint_num_cpus"]) == ("python -m tuning.main", 1)
    assert job["runtime_env"] == {"env_vars": {"A": "1"}}
    assert await world.names(RAY_CLUSTERS) == [status["rayClusterName"]]


@pytest.mark.parametrize(("word", "state"), [("SUCCEEDED", "Complete"), ("STOPPED", "Complete"), ("FAILED", "Failed")])
async def test_the_end_of_a_job(world, word, state):
    job = await running_job(world)

    job |= {"status": word, "message": "as Ray says", "start_time": 1_700_000_000_000, "end_time": 1_700_000_001_000}
    await world.step(2)

    status = (await job_of(world))["status"]
    assert (status["jobStatus"], status["jobDeploymentStatus"], status["message"]) == (word, state, "as Ray says")
    assert status["rayJobInfo"] == {"startTime": "2023-11-14T22:13:20Z", "endTime": "2023-11-14T22:13:21Z"}


async def test_the_cluster_of_a_finished_job_goes_when_asked_to(world):
    job = await running_job(world, shutdownAfterJobFinishes=True)

    job["status"] = "SUCCEEDED"
    await world.step(3)
    await world.pods_stopped()

    assert await world.names(RAY_CLUSTERS) == []
    assert (await job_of(world))["status"]["jobDeploymentStatus"] == "Complete"


async def test_a_failed_job_is_tried_again_in_a_new_cluster_as_often_as_it_may(world):
    job = await running_job(world, backoffLimit=1)
    first = (await job_of(world))["status"]["rayClusterName"]

    job["status"] = "FAILED"
    await world.step(2)
    await world.pods_stopped()
    await world.step(2)

    status = (await job_of(world))["status"]
    assert (status["jobDeploymentStatus"], status["failed"]) == ("Initializing", 1)
    assert status["rayClusterName"] != first


async def test_a_job_over_its_deadline_is_stopped_and_not_tried_again(world):
    job = await running_job(world, activeDeadlineSeconds=5, backoffLimit=3)
    now = await job_of(world)
    await world.objects.replace_status(
        RAY_JOBS, world.objects.get(RAY_JOBS, "tune", "default"), {**now["status"], "startTime": "2020-01-01T00:00:00Z"}
    )

    await world.step()

    status = (await job_of(world))["status"]
    assert (status["jobDeploymentStatus"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert world.ray.only.stopped == [job["submission_id"]]


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_clock_that_is_set_neither_ends_a_job_nor_lets_it_run_for_ever(world, monkeypatch, jump_s):
    await running_job(world, activeDeadlineSeconds=5)
    monkeypatch.setattr(stopwatch, "seconds_since", lambda _: jump_s)

    await world.step()
    assert (await job_of(world))["status"]["jobDeploymentStatus"] == "Running"

    world.now += 6
    await world.step()
    assert (await job_of(world))["status"]["reason"] == "DeadlineExceeded"


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_a_clock_that_is_set_neither_ends_a_cluster_early_nor_keeps_it(world, monkeypatch, jump_s):
    job = await running_job(world, shutdownAfterJobFinishes=True, ttlSecondsAfterFinished=60)
    job["status"] = "SUCCEEDED"
    await world.step(2)
    monkeypatch.setattr(stopwatch, "seconds_since", lambda _: jump_s)

    await world.step(2)
    assert len(await world.names(RAY_CLUSTERS)) == 1

    world.now += 61
    await world.step(2)
    await world.pods_stopped()
    assert await world.names(RAY_CLUSTERS) == []


async def test_a_job_that_cannot_be_submitted_says_which_field(world):
    await world.cluster.create(RAY_JOBS, ray_job(runtimeEnvYAML="{"))
    await world.settle()
    await world.step(2)
    await world.head_ready()

    await world.step()

    status = (await job_of(world))["status"]
    assert status["jobDeploymentStatus"] == "ValidationFailed"
    assert status["message"].startswith("spec.runtimeEnvYAML")


async def test_a_deleted_job_goes_with_its_cluster(world):
    await running_job(world)

    await world.cluster.delete(RAY_JOBS, "tune", "default")
    await world.settle()
    await world.step(2)
    await world.pods_stopped()
    await world.step(2)

    assert await world.names(RAY_JOBS) == []
    assert await world.names(PODS) == []
