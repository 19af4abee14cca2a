"""An embedding preset: real weights from a package index, through the official client and vLLM's other routes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from kaito_ray.api.app_args import AppArgs
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.e2e.serving import routes
from tests.e2e.serving.serve import Served, serving

pytestmark = pytest.mark.engine

PRESET = "all-minilm-l6-v2"
TEXTS = ["A man is eating pasta.", "Somebody is having a meal.", "The stars are far away tonight."]
TOLERANCE = 1e-4
"""Of the cosine to the reference's vector, both in float32."""


@pytest.fixture(scope="module")
def weights() -> Path:
    return local_directory(find(PRESET).source)


@pytest.fixture(scope="module")
def served(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    preset = find(PRESET)
    args = AppArgs(
        workspace="embeddings",
        namespace="default",
        served_model_name=PRESET,
        source=preset.source,
        device="cpu",
        engine_args={"max_model_len": preset.max_model_len, "dtype": preset.dtype},
    )
    with serving(args, tmp_path_factory.mktemp("embeddings"), uid="e2e-embeddings") as found:
        yield found


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=120) as client:
        yield client


def test_embeddings_are_the_reference_s(served: Served, weights: Path) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        answer = client.embeddings.create(model=PRESET, input=TEXTS)
        assert [model.id for model in client.models.list().data] == [PRESET]
    ours = torch.tensor([item.embedding for item in answer.data])
    assert torch.allclose((ours * reference(weights)).sum(dim=1), torch.ones(len(TEXTS)), atol=TOLERANCE)
    assert answer.usage.prompt_tokens > len(TEXTS)
    near, far = ours[0] @ ours[1], ours[0] @ ours[2]
    assert near > far + 0.2


def test_texts_are_scored_and_ranked_by_meaning(http: httpx.Client) -> None:
    scores = http.post("/score", json={"model": PRESET, "text_1": TEXTS[0], "text_2": TEXTS[1:]}).json()
    meal, stars = (item["score"] for item in scores["data"])
    assert meal > stars
    for route in ("/rerank", "/v1/rerank", "/v2/rerank"):
        ask = {"model": PRESET, "query": TEXTS[0], "documents": TEXTS[:0:-1], "top_n": 1}
        (best,) = http.post(route, json=ask).json()["results"]
        assert best["document"]["text"] == TEXTS[1]


def test_the_page_lists_every_route_of_an_embedding_model(http: httpx.Client) -> None:
    assert routes.served(http) == routes.documented("embedding")


def test_what_an_embedding_model_cannot_do_is_refused_in_words(http: httpx.Client) -> None:
    chat = {"model": PRESET, "messages": [{"role": "user", "content": "Hi"}]}
    for route in ("/v1/chat/completions", "/chat"):
        answer = http.post(route, json=chat)
        assert 400 <= answer.status_code < 500, (route, answer.text)
    assert http.post("/tokenize", json={"model": PRESET, "prompt": TEXTS[0]}).json()["count"] > 3


@torch.inference_mode()
def reference(weights: Path) -> torch.Tensor:
    """The mean of the last hidden states, normalised: what the model's own pooling files say."""
    tokenizer, model = AutoTokenizer.from_pretrained(weights), AutoModel.from_pretrained(weights, dtype=torch.float32)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1).float()
    mean = (model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(mean, dim=1)
