"""Models of no catalog: fetched in the background, tried again, remembered, and kept with what serves them."""

import asyncio
import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaito_ray.controller.models import (
    FETCHING,
    FIRST_RETRY_S,
    MOST_MODELS,
    FetchedModels,
    ModelUnavailable,
    Wanted,
    fetch_with,
)
from kaito_ray.controller.queue import Key
from kaito_ray.controller.reconcile import reconcile
from kaito_ray.controller.references import References
from kaito_ray.controller.served_model import MODEL
from kaito_ray.controller.settings import Settings, from_arguments
from kaito_ray.errors import KaitoRayError
from kaito_ray.kube.cluster import EVENTS, NODES, RAY_SERVICES, SECRETS, WORKSPACES, Manifest
from kaito_ray.testing.builders import node, workspace
from kaito_ray.testing.fake_cluster import FakeCluster
from kaito_ray.testing.fake_replicas import FakeReplicas
from kaito_ray.weights.facts import ModelFacts
from kaito_ray.weights.problems import ModelAccessDenied, ModelNotFound, SourceUnreachable

KEY = Key("default", "smol")
FIELD = "inference.preset.name"
COMMIT = "c" * 40
FACTS = ModelFacts(
    config={
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    },
    weights_bytes=1000,
    hub="test-org/tiny-model",
    commit=COMMIT,
)
WANTED = Wanted("test-org/tiny-model")


@dataclass
class Hub:
    """Answers what it is told to, and counts."""

    answer: ModelFacts | KaitoRayError = FACTS
    asked: list[Wanted] = field(default_factory=list)
    now: float = 0.0
    news: list[Key] = field(default_factory=list)

    def fetch(self, wanted: Wanted) -> ModelFacts:
        self.asked.append(wanted)
        if isinstance(self.answer, KaitoRayError):
            raise self.answer
        return self.answer

    def models(self) -> FetchedModels:
        return FetchedModels(self.news.append, fetch=self.fetch, clock=lambda: self.now)

    async def told(self) -> None:
        """Wait until somebody is told, for the fetch runs in a thread."""
        async with asyncio.timeout(60):
            while not self.news:
                await asyncio.sleep(0)
        self.news.clear()


def unavailable(models: FetchedModels, wanted: Wanted = WANTED) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        models.look_up(wanted, KEY, FIELD)
    return caught.value


async def test_who_asks_is_told_when_the_model_is_there_and_it_is_fetched_once() -> None:
    hub = Hub()
    models = hub.models()
    assert unavailable(models).reason == FETCHING
    await hub.told()
    preset = models.look_up(WANTED, KEY, FIELD)
    assert (preset.name, preset.source.hub, preset.source.revision) == ("tiny-model", "test-org/tiny-model", COMMIT)
    assert models.look_up(WANTED, KEY, FIELD) == preset
    assert hub.asked == [WANTED]


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        pytest.param(SourceUnreachable("down"), "HubUnreachable", "set HF_ENDPOINT to a mirror", id="unreachable"),
        pytest.param(ModelAccessDenied("gated"), "ModelAccessDenied", "gated", id="gated"),
        pytest.param(ModelNotFound("no such"), "ModelNotFound", "no such", id="not there"),
    ],
)
async def test_what_failed_is_told_with_its_reason(error: KaitoRayError, reason: str, words: str) -> None:
    hub = Hub(error)
    models = hub.models()
    unavailable(models)
    await hub.told()
    told = unavailable(models)
    assert (told.reason, told.pending, words in str(told)) == (reason, False, True)
    assert hub.asked == [WANTED], "not asked again before its time"


async def test_it_is_tried_again_after_a_growing_delay_and_the_reason_stands_meanwhile() -> None:
    hub = Hub(SourceUnreachable("down"))
    models = hub.models()
    unavailable(models)
    await hub.told()
    delays = []
    for _ in range(10):
        delays.append(unavailable(models).again_s)
        hub.now += delays[-1]
        assert unavailable(models).reason == "HubUnreachable"
        await hub.told()
    assert delays[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert delays[-1] == 300
    hub.answer, hub.now = FACTS, hub.now + 300
    unavailable(models)
    await hub.told()
    assert models.look_up(WANTED, KEY, FIELD).name == "tiny-model"


async def test_a_near_preset_is_suggested_for_a_model_that_is_not_there() -> None:
    hub = Hub(ModelNotFound("the hub knows no microsoft/phi-4x"))
    models = hub.models()
    wanted = Wanted("microsoft/phi-4x")
    unavailable(models, wanted)
    await hub.told()
    assert "did you mean phi-4" in str(unavailable(models, wanted))


async def test_memory_is_bounded() -> None:
    hub = Hub()
    models = hub.models()
    for number in range(MOST_MODELS + 1):
        unavailable(models, Wanted(f"org/m{number}"))
        await hub.told()
    asked = len(hub.asked)
    models.look_up(Wanted(f"org/m{MOST_MODELS}"), KEY, FIELD)
    assert len(hub.asked) == asked
    assert unavailable(models, Wanted("org/m0")).pending, "the oldest was forgotten"
    await hub.told()


def test_a_directory_of_models_is_looked_in_before_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "test-org" / "tiny-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(FACTS.config))
    (folder / "model.safetensors").write_bytes(b"12345")
    found = fetch_with("http://127.0.0.1:9", tmp_path)(WANTED)
    assert (found.directory, found.weights_bytes, found.hub) == (folder, 5, "test-org/tiny-model")
    with pytest.raises(SourceUnreachable):
        fetch_with("http://127.0.0.1:9", tmp_path)(Wanted("test-org/other"))


def test_the_settings_of_hub_directory_and_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = from_arguments(
        ["--provider", "local", "--models-dir", str(tmp_path), "--engine-cuda", "12"],
        {"HF_ENDPOINT": "http://mirror.example.com/"},
    )
    assert (found.hub_endpoint, found.mirror) == ("http://mirror.example.com", "http://mirror.example.com")
    assert (found.models_dir, found.engine_image.name) == (tmp_path, "CUDA 12")
    assert from_arguments([], {}).mirror is None
    with pytest.raises(SystemExit):
        from_arguments(["--models-dir", str(tmp_path)], {})
    assert "in a cluster set HF_ENDPOINT" in capsys.readouterr().err


class Story:
    """One Workspace of such a model, reconciled."""

    def __init__(self, hub: Hub, **preset: Any) -> None:
        self.hub = hub
        self.models: FetchedModels = hub.models()
        self.cluster = FakeCluster()
        self.manifest = workspace(inference={"preset": {"name": "test-org/tiny-model", **preset}})

    async def begun(self) -> "Story":
        await self.cluster.create(NODES, node())
        await self.cluster.create(WORKSPACES, self.manifest)
        return self

    async def reconciled(self) -> Manifest:
        settings = Settings(provider="local", hub_endpoint="http://mirror.example.com")
        await reconcile(self.cluster, FakeReplicas(), KEY, settings, models=self.models, now="2026-01-01T00:00:00Z")
        found = await self.cluster.get(WORKSPACES, "smol", "default")
        assert found is not None
        return found

    async def served(self) -> Manifest:
        await self.reconciled()
        await self.hub.told()
        await self.reconciled()
        found = await self.cluster.get(RAY_SERVICES, "smol", "default")
        assert found is not None
        return found


def ready(manifest: Manifest) -> dict[str, Any]:
    (found,) = [c for c in manifest["status"]["conditions"] if c["type"] == "WorkspaceReady"]
    return dict(found)


async def test_while_it_is_fetched_the_workspace_says_so_without_an_alarm() -> None:
    story = await Story(Hub()).begun()
    seen = await story.reconciled()
    assert (ready(seen)["reason"], seen["status"]["state"]) == (FETCHING, "Pending")
    assert "reading config.json of test-org/tiny-model" in seen["status"]["reason"]
    assert not await story.cluster.list(EVENTS)
    await story.hub.told()


async def test_then_it_is_served_at_the_commit_it_was_planned_with_from_the_mirror() -> None:
    story = await Story(Hub()).begun()
    service = await story.served()
    config = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]["args"]
    assert config["servedModelName"] == "tiny-model"
    assert config["source"] == {"hub": "test-org/tiny-model", "revision": COMMIT}
    assert config["trustRemoteCode"] is False
    pod = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {"name": "HF_ENDPOINT", "value": "http://mirror.example.com"} in pod["env"]


async def test_an_operator_that_restarts_without_the_hub_keeps_what_is_served() -> None:
    story = await Story(Hub()).begun()
    service = await story.served()
    story.hub.answer, story.models = SourceUnreachable("down"), story.hub.models()
    seen = await story.reconciled()
    assert await story.cluster.get(RAY_SERVICES, "smol", "default") == service
    assert seen["status"]["plan"]["contextLengthTokens"] == 512
    assert len(story.hub.asked) == 1


async def test_another_revision_is_fetched_anew() -> None:
    story = await Story(Hub()).begun()
    await story.served()
    edited = await story.reconciled()
    edited["inference"]["preset"]["revision"] = "v2"
    await story.cluster.replace(WORKSPACES, edited)
    await story.reconciled()
    await story.hub.told()
    assert story.hub.asked[-1] == Wanted("test-org/tiny-model", "v2")


async def test_a_broken_note_on_the_ray_service_is_no_harm() -> None:
    story = await Story(Hub()).begun()
    service = await story.served()
    service["metadata"]["annotations"][MODEL] = "{}"
    await story.cluster.replace(RAY_SERVICES, service)
    await story.reconciled()
    mended = await story.cluster.get(RAY_SERVICES, "smol", "default")
    assert mended is not None
    assert json.loads(mended["metadata"]["annotations"][MODEL])["name"] == "test-org/tiny-model"


async def test_the_token_is_read_from_the_secret_and_its_absence_is_named() -> None:
    story = await Story(Hub(), presetOptions={"modelAccessSecret": "hub"}).begun()
    seen = await story.reconciled()
    assert ready(seen)["reason"] == "SecretNotFound"
    assert "modelAccessSecret: there is no Secret hub" in ready(seen)["message"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hub", "namespace": "default"},
        "data": {"HF_TOKEN": base64.b64encode(b"hf_abc\n").decode()},
    }
    await story.cluster.create(SECRETS, secret)
    await story.reconciled()
    await story.hub.told()
    assert story.hub.asked == [Wanted("test-org/tiny-model", None, "hf_abc")]


def test_a_change_of_that_secret_wakes_the_workspace() -> None:
    known = References()
    spec = {"preset": {"name": "org/m", "presetOptions": {"modelAccessSecret": "hub"}}}
    known.learn(KEY, {"inference": spec})
    assert known.naming("Secret", "default", "hub") == [KEY]
