"""What a hub, a mirror or a directory says of a model; the hub is a function here, asked through httpx."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from kaito_ray.errors import KaitoRayError
from kaito_ray.weights import facts
from kaito_ray.weights.problems import ModelAccessDenied, ModelNotFound, SourceUnreachable, WeightsUnavailable

COMMIT = "0123abc"
CONFIG = {"model_type": "llama"}
ABOUT = {
    "sha": COMMIT,
    "gated": "manual",
    "cardData": {"license": "mit"},
    "siblings": [
        {"rfilename": "model-1.safetensors", "size": 40},
        {"rfilename": "model-2.safetensors", "size": 2},
        {"rfilename": "pytorch_model.bin", "size": 99},
        {"rfilename": "onnx/model.safetensors", "size": 1000},
    ],
}

Answers = dict[str, httpx.Response]
Hub = Callable[[Answers], list[httpx.Request]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Let httpx be answered from a table of paths; return the list that requests are noted in."""

    def answered_by(answers: Answers) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return answers.get(request.url.path) or httpx.Response(404, headers={"X-Error-Code": "EntryNotFound"})

        monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(handle)))
        return asked

    return answered_by


def answers(about: dict[str, Any], **files: httpx.Response) -> Answers:
    found = {
        "/api/models/org/m": httpx.Response(200, json=about),
        "/api/models/org/m/revision/v1": httpx.Response(200, json=about),
    }
    for commit in (COMMIT, "v1", "main"):
        found[f"/org/m/resolve/{commit}/config.json"] = httpx.Response(200, json=CONFIG)
        found |= {f"/org/m/resolve/{commit}/{name}": answer for name, answer in files.items()}
    return found


def test_a_hub_says_what_the_model_is_and_how_big_its_files_in_one_form_are(hub: Hub) -> None:
    asked = hub(answers(ABOUT))
    found = facts.of_hub("org/m", hub="https://mirror.example.com/", token="secret")
    assert (found.config, found.weights_bytes, found.commit) == (CONFIG, 42, COMMIT)
    assert (found.hub, found.gated, found.license) == ("org/m", True, "mit")
    assert {request.headers["authorization"] for request in asked} == {"Bearer secret"}
    assert {request.url.host for request in asked} == {"mirror.example.com"}


def test_the_hub_of_the_environment_is_asked_where_none_is_given(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://other.example.com")
    asked = hub(answers(ABOUT))
    facts.of_hub("org/m")
    assert {request.url.host for request in asked} == {"other.example.com"}


@pytest.mark.parametrize(("revision", "commit"), [("v1", "v1"), (None, "main")])
def test_a_mirror_without_commits_is_taken_at_the_revision(hub: Hub, revision: str | None, commit: str) -> None:
    hub(answers({**ABOUT, "sha": None}))
    assert facts.of_hub("org/m", revision, hub="https://h").commit == commit


def test_sizes_that_are_not_listed_are_in_the_index_or_asked_for(hub: Hub) -> None:
    names = [{"rfilename": "model-1.safetensors"}, {"rfilename": "model-2.safetensors"}]
    heads = {name["rfilename"]: httpx.Response(200, headers={"Content-Length": "7"}) for name in names}
    hub(answers({"sha": COMMIT, "siblings": names}, **heads))
    assert facts.of_hub("org/m", hub="https://h").weights_bytes == 14
    index = "model.safetensors.index.json"
    listed = [*names, {"rfilename": index}]
    hub(
        answers(
            {"sha": COMMIT, "siblings": listed}, **{index: httpx.Response(200, json={"metadata": {"total_size": 9}})}
        )
    )
    assert facts.of_hub("org/m", hub="https://h").weights_bytes == 9


def refusal(status: int, code: str = "") -> httpx.Response:
    return httpx.Response(status, headers={"X-Error-Code": code} if code else {})


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal(401, "RepoNotFound"), ModelNotFound, "knows no org/m"),
        (refusal(404, "RevisionNotFound"), ModelNotFound, "no revision 'v1'"),
        (refusal(403, "GatedRepo"), ModelAccessDenied, "gated"),
        (refusal(403), ModelAccessDenied, "gated"),
        (refusal(404, "EntryNotFound"), WeightsUnavailable, "no config.json"),
        (refusal(503), SourceUnreachable, "503"),
        (refusal(429), SourceUnreachable, "429"),
        (refusal(418), WeightsUnavailable, "418"),
        (httpx.Response(200, content=b"no json"), WeightsUnavailable, "is not JSON"),
        (httpx.Response(200, json=[]), WeightsUnavailable, "not a JSON object"),
        (httpx.Response(200, json={"siblings": []}), WeightsUnavailable, r"no \*\.safetensors"),
    ],
)
def test_a_refusal_is_told_by_what_to_do(
    hub: Hub, answer: httpx.Response, error: type[KaitoRayError], words: str
) -> None:
    hub({**answers(ABOUT), "/api/models/org/m/revision/v1": answer})
    with pytest.raises(error, match=words):
        facts.of_hub("org/m", "v1", hub="https://h")


def test_an_answer_without_end_is_given_up(hub: Hub) -> None:
    big = httpx.Response(200, content=b" " * (facts.CONFIG_LIMIT_BYTES + 1) + b"{}")
    hub({**answers(ABOUT), f"/org/m/resolve/{COMMIT}/config.json": big})
    with pytest.raises(WeightsUnavailable, match="larger than"):
        facts.of_hub("org/m", hub="https://h")


def test_a_hub_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, transport=httpx.MockTransport(refuse)))
    with pytest.raises(SourceUnreachable, match=r"https://h\) cannot be reached"):
        facts.of_hub("org/m", hub="https://h")


def test_a_directory_says_the_same_of_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(WeightsUnavailable, match="download the weights too"):
        facts.of_directory(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    found = facts.of_directory(tmp_path)
    assert (found.config, found.weights_bytes, found.directory) == (CONFIG, 5, tmp_path.resolve())
