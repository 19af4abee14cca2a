"""Adapters come and go while the replica serves, by `user_config` alone."""

import time
from pathlib import Path

import httpx
import pytest

from kaito_ray.api import names
from kaito_ray.api.app_args import UserAdapter, UserConfig
from tests.e2e.serving.conftest import PRESET
from tests.e2e.serving.serve import Served

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with random weights, large enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(weights)
    config = LoraConfig(r=8, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(base, config).save_pretrained(folder)
    return folder


def replica(served: Served) -> str:
    (only,) = served.application()["deployments"][names.DEPLOYMENT]["replicas"]
    return only["actor_id"]


def states(http: httpx.Client, *, until: set[str], within_s: float = 20) -> dict[str, tuple[str, str]]:
    """The adapters once each has one of the states."""
    deadline = time.monotonic() + within_s
    while True:
        seen = {a["name"]: (a["state"], a.get("message", "")) for a in http.get("/adapters").json()["adapters"]}
        if {state for state, _ in seen.values()} <= until or time.monotonic() > deadline:
            return seen
        time.sleep(0.1)


def put(served: Served, *adapters: UserAdapter) -> None:
    served.put(UserConfig(adapters=adapters))
    served.wait()


def answer(http: httpx.Client, **body: object) -> httpx.Response:
    kwargs = {"do_sample": False, "max_new_tokens": 8}
    return http.post("/chat", json={"prompt": "The capital of France is", "generate_kwargs": kwargs, **body})


def test_an_adapter_comes_answers_and_goes_in_the_same_replica(
    served: Served, http: httpx.Client, folder: Path
) -> None:
    before, base = replica(served), answer(http)
    assert base.headers["x-kaito-model"] == PRESET

    put(served, UserAdapter(name="strange", path=str(folder)))
    assert states(http, until={"Ready", "Failed"}) == {"strange": ("Ready", "")}
    adapted = answer(http)
    assert adapted.headers["x-kaito-model"] == "strange"
    assert adapted.json() != base.json()
    assert answer(http, model=PRESET).json() == base.json()
    assert {m["id"] for m in http.get("/v1/models").json()["data"]} == {PRESET, "strange"}
    assert http.get("/v1/models/strange").json()["parent"] == PRESET

    put(served, UserAdapter(name="strange", path=str(folder)), UserAdapter(name="twin", path=str(folder)))
    assert {state for state, _ in states(http, until={"Ready", "Failed"}).values()} == {"Ready"}
    several = answer(http)
    assert several.status_code == 400
    assert f"name one of strange, twin, {PRESET}" in several.json()["detail"]

    put(served)
    assert answer(http, model="strange").status_code == 404
    assert answer(http).json() == base.json()
    assert replica(served) == before


def test_a_bad_adapter_says_why_and_harms_nobody(served: Served, http: httpx.Client, folder: Path) -> None:
    before = replica(served)
    put(served, UserAdapter(name="good", path=str(folder)), UserAdapter(name="bad", path=str(folder / "nowhere")))
    seen = states(http, until={"Ready", "Failed"})
    assert seen["good"] == ("Ready", "")
    assert seen["bad"][0] == "Failed"
    assert "nowhere" in seen["bad"][1]
    assert answer(http, model=PRESET).status_code == 200
    assert replica(served) == before
    put(served)
