"""The story of a tuning Workspace over a cluster in memory, in which the test plays KubeRay, Karpenter and the job."""

import base64
import json
from typing import Any

import pytest

from kaito_ray.api.status import TuningStatus
from kaito_ray.api.tuning_args import ARGS_VARIABLE, TuningArgs, TuningFailure, TuningProgress
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import RESYNC_S, reconcile
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.tuning_run import LOOK_AGAIN_S
from kaito_ray.kube.cluster import (
    CONFIG_MAPS,
    EVENTS,
    NODE_POOLS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    RAY_JOBS,
    SECRETS,
    WORKSPACES,
    Manifest,
)
from kaito_ray.testing.builders import TUNING, merged, node, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas

LOCAL = Settings(provider="local", worker_image="registry.example.com/worker:1")
KEY = Key("default", "smol")
NOW = "2026-01-01T00:00:00Z"
STEP = TuningStatus(step=3, steps=12, epoch=0.25, loss=1.5, tokens_per_second=150.0, eta_seconds=9)


class FakeJobs:
    """Says what the test wants."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] | None = None
        self.asked: list[tuple[str, str, str]] = []

    async def log(self, dashboard: str, job: str, token: str, *, last: int | None = None) -> tuple[str, ...] | None:
        assert last is not None, "a log grows with every step"
        self.asked.append((dashboard, job, token))
        return self.lines and self.lines[-last:]


class Stage:
    """One tuning Workspace in a cluster, and what happens to it."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.jobs = FakeJobs()
        self.again_s: float | None = None

    async def given(self, *, settings: Settings = LOCAL, secret: bool = True, **changes: Any) -> "Stage":
        self.settings = settings
        await self.cluster.create(NODES, node())
        if secret:
            await self.cluster.create(SECRETS, _named("Secret", "push"))
        tuning = merged(TUNING, changes)
        await self.cluster.create(WORKSPACES, workspace(inference=None, tuning=tuning))
        return self

    async def reconciled(self) -> Manifest:
        self.again_s = await reconcile(self.cluster, FakeReplicas(), KEY, self.settings, jobs=self.jobs, now=NOW)
        found = await self.cluster.get(WORKSPACES, "smol", "default")
        assert found is not None
        return found

    async def job(self, **status: Any) -> None:
        """Play KubeRay: write the RayJob's status, and the Secret with the cluster's token."""
        job = await self.cluster.get(RAY_JOBS, "smol", "default")
        assert job is not None
        ids = {"jobId": "smol-1", "rayClusterName": "smol-1", "dashboardURL": "head:8265"}
        await self.cluster.replace_status(RAY_JOBS, {**job, "status": {**ids, **status}})
        if await self.cluster.get(SECRETS, "smol-1", "default") is None:
            token = {"auth_token": base64.b64encode(b"word").decode()}
            await self.cluster.create(SECRETS, {**_named("Secret", "smol-1"), "data": token})

    async def args(self) -> TuningArgs:
        job = await self.cluster.get(RAY_JOBS, "smol", "default")
        assert job is not None
        container = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        return TuningArgs.from_wire(json.loads(env[ARGS_VARIABLE]))

    async def events(self) -> list[str]:
        return [event["reason"] for event in await self.cluster.list(EVENTS)]


def _named(kind: str, name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}}


def condition(workspace_: Manifest, type_: str) -> Manifest:
    return next(c for c in workspace_["status"]["conditions"] if c["type"] == type_)


async def test_a_job_its_claim_and_its_machines_are_made() -> None:
    stage = await Stage().given()
    seen = await stage.reconciled()
    assert len(await stage.cluster.list(NODE_POOLS)) == 1
    assert len(await stage.cluster.list(PERSISTENT_VOLUME_CLAIMS)) == 1
    assert (seen["status"]["state"], condition(seen, "JobStarted")["status"]) == ("Running", "False")
    assert seen["status"]["plan"]["dtype"] == "nf4"
    assert stage.again_s == LOOK_AGAIN_S
    assert await stage.events() == ["TuningStarted"]
    args = await stage.args()
    assert (args.method, args.preset, args.device) == ("qlora", "smollm2-135m-instruct", "cpu")
    assert args.input.urls == ("https://example.com/data.parquet",)
    assert args.output.image == "registry.example.com/team/adapter:1"
    assert args.credentials == "/mnt/registry"


async def test_progress_is_what_the_job_printed_last() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    stage.jobs.lines = ("noise", TuningProgress(phase="Training", status=STEP).to_line(), '{"tuningProgress":{"cut')
    seen = await stage.reconciled()
    assert seen["status"]["tuning"] == STEP.to_wire()
    assert condition(seen, "JobStarted")["status"] == "True"
    assert seen["status"]["reason"] == "step 3 of 12, loss 1.5, about 9 s left"
    assert stage.jobs.asked[-1] == ("head:8265", "smol-1", "word")


async def test_a_job_that_cannot_be_asked_keeps_its_last_progress() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.job(jobDeploymentStatus="Running", jobStatus="RUNNING")
    stage.jobs.lines = (TuningProgress(phase="Training", status=STEP).to_line(),)
    await stage.reconciled()
    stage.jobs.lines = None
    assert (await stage.reconciled())["status"]["tuning"] == STEP.to_wire()


async def test_a_finished_job_succeeds_names_the_image_and_gives_its_machines_back() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.job(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    done = STEP.model_copy(update={"step": 12, "output": "registry.example.com/team/adapter@sha256:1"})
    stage.jobs.lines = (TuningProgress(phase="Done", status=done).to_line(),)
    seen = await stage.reconciled()
    assert seen["status"]["state"] == "Succeeded"
    assert condition(seen, "WorkspaceSucceeded")["status"] == "True"
    assert "team/adapter@sha256:1" in condition(seen, "JobStarted")["message"]
    assert seen["status"]["tuning"]["output"] == "registry.example.com/team/adapter@sha256:1"
    assert await stage.cluster.list(NODE_POOLS) == []
    assert stage.again_s == RESYNC_S
    assert "TuningSucceeded" in await stage.events()
    before = len(stage.cluster.writes)
    await stage.reconciled()
    assert stage.cluster.writes[before:] == [], "a finished run is left alone"


async def test_a_failed_job_says_why_in_its_own_words_and_how_to_go_on() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    failure = TuningFailure(reason="InvalidWorkspace", message="tuning.input: a.jsonl row 7: no text").to_line()
    await stage.job(jobDeploymentStatus="Failed", jobStatus="FAILED", message=f"Job failed, last logs:\n{failure}\n")
    seen = await stage.reconciled()
    started = condition(seen, "JobStarted")
    assert (seen["status"]["state"], started["status"]) == ("Failed", "False")
    assert "a.jsonl row 7: no text" in started["message"]
    assert "kubectl delete rayjob smol" in started["message"]
    assert condition(seen, "WorkspaceSucceeded")["reason"] == "workspaceFailed"
    assert await stage.cluster.list(NODE_POOLS) == []


async def test_a_deleted_job_is_made_again() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.job(jobDeploymentStatus="Failed", jobStatus="FAILED")
    await stage.reconciled()
    await stage.cluster.delete(RAY_JOBS, "smol", "default")
    seen = await stage.reconciled()
    assert len(await stage.cluster.list(RAY_JOBS)) == 1
    assert seen["status"]["state"] == "Running"


async def test_the_config_map_reaches_the_job() -> None:
    stage = await Stage().given(config="mine")
    text = "training_config:\n  profile: recommended\n  TrainingArguments:\n    max_steps: 5\n"
    config = {**_named("ConfigMap", "mine"), "data": {"training_config.yaml": text}}
    await stage.cluster.create(CONFIG_MAPS, config)
    await stage.reconciled()
    expected = {"profile": "recommended", "TrainingArguments": {"max_steps": 5}}
    assert (await stage.args()).training_config == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "no key training_config.yaml", id="no file"),
        pytest.param("a: [", "is not YAML", id="no YAML"),
        pytest.param("ModelConfig: {}", "as its only root", id="another root"),
        pytest.param("training_config: 3", "must hold sections", id="no sections"),
    ],
)
async def test_a_config_map_of_another_form_is_refused(text: str | None, words: str) -> None:
    stage = await Stage().given(config="mine")
    data = {} if text is None else {"training_config.yaml": text}
    await stage.cluster.create(CONFIG_MAPS, {**_named("ConfigMap", "mine"), "data": data})
    seen = await stage.reconciled()
    assert words in condition(seen, "JobStarted")["message"]
    assert await stage.cluster.list(RAY_JOBS) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param({"secret": False}, "SecretNotFound", id="a push secret that is not there"),
        pytest.param({"config": "gone"}, "ConfigMapNotFound", id="a ConfigMap that is not there"),
        pytest.param(
            {"input": {"urls": None, "image": "r.example.com/d:1", "imagePullSecrets": ["gone"]}},
            "SecretNotFound",
            id="a pull secret that is not there",
        ),
    ],
)
async def test_refused_before_anything_is_made(given: dict[str, Any], reason: str) -> None:
    stage = await Stage().given(**given)
    seen = await stage.reconciled()
    assert condition(seen, "JobStarted")["reason"] == reason
    assert await stage.cluster.list(RAY_JOBS) == []
    assert await stage.cluster.list(NODE_POOLS) == []


async def test_data_in_an_image_is_pulled_with_its_secrets() -> None:
    stage = Stage()
    await stage.cluster.create(SECRETS, _named("Secret", "pull"))
    await stage.given(input={"urls": None, "image": "r.example.com/d:1", "imagePullSecrets": ["pull"]})
    await stage.reconciled()
    args = await stage.args()
    assert (args.input.image, args.input.credentials) == ("r.example.com/d:1", ("/mnt/data-registry/0",))
    job = await stage.cluster.get(RAY_JOBS, "smol", "default")
    assert job is not None
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert {"name": "pull-0", "secret": {"secretName": "pull"}} in pod["volumes"]
    mount = {"name": "pull-0", "mountPath": "/mnt/data-registry/0", "readOnly": True}
    assert mount in pod["containers"][0]["volumeMounts"]


async def test_private_data_sources_are_the_operators_to_allow() -> None:
    stage = await Stage().given(settings=Settings(provider="local", data_allow=("data.lan", "10.0.0.0/8")))
    await stage.reconciled()
    job = await stage.cluster.get(RAY_JOBS, "smol", "default")
    assert job is not None
    container = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "KAITO_RAY_DATA_ALLOW", "value": "data.lan,10.0.0.0/8"} in container["env"]


async def test_deleting_stops_the_job_before_its_machines() -> None:
    stage = await Stage().given()
    await stage.reconciled()
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    await stage.reconciled()
    assert await stage.cluster.list(RAY_JOBS) == []
    assert len(await stage.cluster.list(NODE_POOLS)) == 1
    stage.again_s = await reconcile(stage.cluster, FakeReplicas(), KEY, LOCAL, jobs=stage.jobs, now=NOW)
    assert await stage.cluster.list(NODE_POOLS) == []


CLOUD = Settings(provider="azure", worker_image="registry.example.com/worker:1")
CHECK = "smol-data"


async def on_gpus() -> Stage:
    stage = Stage()
    stage.settings = CLOUD
    await stage.cluster.create(SECRETS, _named("Secret", "push"))
    resource = {"instanceType": "Standard_NC24ads_A100_v4", "labelSelector": {"matchLabels": {"apps": "smol"}}}
    await stage.cluster.create(WORKSPACES, workspace(inference=None, tuning=TUNING, resource=resource))
    return stage


async def checked(stage: Stage, **status: Any) -> Manifest:
    """Play KubeRay for the job that looks at the data."""
    check = await stage.cluster.get(RAY_JOBS, CHECK, "default")
    assert check is not None
    await stage.cluster.replace_status(RAY_JOBS, {**check, "status": status})
    return await stage.reconciled()


async def test_data_is_looked_at_on_any_node_before_a_gpu_is_asked_for() -> None:
    stage = await on_gpus()
    seen = await stage.reconciled()
    (check,) = await stage.cluster.list(RAY_JOBS)
    assert await stage.cluster.list(NODE_POOLS) == []
    assert (seen["status"]["state"], condition(seen, "JobStarted")["status"]) == ("Running", "False")
    assert "before a GPU is asked for" in seen["status"]["reason"]
    assert await stage.events() == [], "the run has not begun"
    assert check["spec"]["entrypoint"] == "python -m tuning.main --check-data"
    pod = check["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in json.dumps(pod), "neither a request nor a toleration"
    assert {volume["name"] for volume in pod["volumes"]} == {"cache"}, "no checkpoints, no right to push"

    await checked(stage, jobDeploymentStatus="Running", jobStatus="RUNNING")
    assert await stage.cluster.list(NODE_POOLS) == []
    await checked(stage, jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert len(await stage.cluster.list(NODE_POOLS)) == 1
    assert {job["metadata"]["name"] for job in await stage.cluster.list(RAY_JOBS)} == {"smol", CHECK}
    assert await stage.events() == ["TuningStarted"]


async def test_data_that_cannot_be_used_never_brings_a_gpu() -> None:
    stage = await on_gpus()
    await stage.reconciled()
    failure = TuningFailure(reason="InvalidWorkspace", message="tuning.input: a.jsonl row 7: no text").to_line()
    seen = await checked(stage, jobDeploymentStatus="Failed", jobStatus="FAILED", message=f"last logs:\n{failure}\n")
    assert seen["status"]["state"] == "Failed"
    assert "a.jsonl row 7: no text" in condition(seen, "JobStarted")["message"]
    assert f"kubectl delete rayjob {CHECK}" in condition(seen, "JobStarted")["message"]
    assert await stage.cluster.list(NODE_POOLS) == []
    assert [job["metadata"]["name"] for job in await stage.cluster.list(RAY_JOBS)] == [CHECK]

    await stage.cluster.delete(RAY_JOBS, CHECK, "default")
    assert (await stage.reconciled())["status"]["state"] == "Running", "it is looked at again"


async def test_deleting_stops_the_look_at_the_data_too() -> None:
    stage = await on_gpus()
    await stage.reconciled()
    await stage.cluster.delete(WORKSPACES, "smol", "default")
    await stage.reconciled()
    assert await stage.cluster.list(RAY_JOBS) == []
