"""`/chat`, as KAITO's clients use it."""

import time

import httpx
import pytest

from tests.e2e.serving.conftest import CONTEXT_TOKENS, PRESET

pytestmark = pytest.mark.engine

GREEDY = {"do_sample": False}
PROMPT = "The capital of France is"


def chat(http: httpx.Client, **body: object) -> httpx.Response:
    return http.post("/chat", json=body)


def test_a_prompt_is_continued_and_returned_in_full(http: httpx.Client) -> None:
    response = chat(http, prompt=PROMPT, generate_kwargs={**GREEDY, "max_new_tokens": 2})
    assert response.json() == {"Result": f"{PROMPT} Paris."}
    assert response.headers["x-kaito-model"] == PRESET


def test_a_prompt_is_raw_text_as_for_completions(http: httpx.Client) -> None:
    options = {"model": PRESET, "prompt": PROMPT, "max_tokens": 20, "temperature": 0, "top_k": 10}
    raw = http.post("/v1/completions", json=options).json()["choices"][0]["text"]
    same = chat(http, prompt=PROMPT, return_full_text=False, generate_kwargs={**GREEDY, "max_new_tokens": 20})
    assert same.json() == {"Result": raw}


def test_a_conversation_gets_the_assistants_words(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    response = chat(http, messages=messages, generate_kwargs=GREEDY)
    assert response.json() == {"Result": "The capital of France is Paris."}


def test_max_length_counts_prompt_and_answer(http: httpx.Client) -> None:
    prompt_tokens = http.post("/tokenize", json={"model": PRESET, "prompt": PROMPT}).json()["count"]
    response = chat(http, prompt=PROMPT, generate_kwargs={**GREEDY, "max_length": prompt_tokens + 1})
    assert response.json() == {"Result": f"{PROMPT} Paris"}


def test_the_default_length_is_kaitos(http: httpx.Client) -> None:
    text = chat(http, prompt="One two three four", generate_kwargs={**GREEDY, "eos_token_id": 49151}).json()["Result"]
    assert 180 <= http.post("/tokenize", json={"model": PRESET, "prompt": text}).json()["count"] <= 200


def test_stop_and_seed_behave_as_on_the_openai_routes(http: httpx.Client) -> None:
    stopped = chat(http, prompt=PROMPT, generate_kwargs={**GREEDY, "stop_strings": [" Paris"]})
    assert stopped.json() == {"Result": PROMPT}
    seeded = {"prompt": "Once", "generate_kwargs": {"seed": 5, "max_new_tokens": 12}}
    assert chat(http, **seeded).json() == chat(http, **seeded).json()


def test_beam_search(http: httpx.Client) -> None:
    response = chat(http, prompt=PROMPT, generate_kwargs={**GREEDY, "num_beams": 2, "max_new_tokens": 2})
    assert response.json()["Result"].startswith(f"{PROMPT} Paris")


def test_a_hole_lets_a_long_prompt_through(http: httpx.Client) -> None:
    long = {"prompt": "word " * (CONTEXT_TOKENS + 50), "generate_kwargs": {**GREEDY, "max_new_tokens": 3}}
    refused = chat(http, **long)
    assert refused.status_code == 400
    assert "handle_long_generation" in refused.json()["detail"]
    assert chat(http, **long, handle_long_generation="hole").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param({}, 400, "prompt: Text generation parameter prompt required", id="nothing"),
        pytest.param(
            {"prompt": "x", "generate_kwargs": {"typical_p": 0.5}}, 400, "generate_kwargs.typical_p", id="key"
        ),
        pytest.param({"prompt": "x", "model": "gpt-4"}, 404, "`gpt-4` does not exist", id="unknown model"),
        pytest.param({"messages": [{"content": "x"}]}, 400, "messages[0].role", id="a message without a role"),
        pytest.param(
            {"prompt": "x", "generate_kwargs": {"eos_token_id": 10**9}}, 400, "token", id="what vLLM itself refuses"
        ),
    ],
)
def test_a_refusal_has_kaitos_shape_and_names_the_field(
    http: httpx.Client, body: dict[str, object], status: int, words: str
) -> None:
    response = chat(http, **body)
    assert response.status_code == status
    assert response.json().keys() == {"detail"}
    assert words in response.json()["detail"]


def test_what_is_no_json_is_refused(http: httpx.Client) -> None:
    response = http.post("/chat", content=b"{", headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["detail"][:14]) == (400, "body: not JSON")


def test_a_client_that_leaves_stops_the_generation(http: httpx.Client) -> None:
    endless = {**GREEDY, "max_new_tokens": CONTEXT_TOKENS - 100, "eos_token_id": 49151}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/chat", json={"prompt": "One two three", "generate_kwargs": endless}, timeout=1)
    deadline = time.monotonic() + 10
    while (running := _running(http)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running == 0


def _running(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))
