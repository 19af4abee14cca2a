"""Adapters come from a registry, change and go while the replica is under constant load: no request may notice."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from kaito_ray.api import names
from kaito_ray.api.app_args import AppArgs, UserAdapter, UserConfig
from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory
from tests.e2e.clients import running
from tests.e2e.serving.serve import Served, serving
from tests.registry import RunningRegistry, running_registry

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

PRESET = "smollm2-135m-instruct"
CLIENTS = 4
LISTERS = 2


@pytest.fixture(scope="module")
def weights() -> Path:
    return local_directory(find(PRESET).source)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def served(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    args = AppArgs(
        workspace="hot",
        namespace="default",
        served_model_name=PRESET,
        source=find(PRESET).source,
        device="cpu",
        engine_args={"max_model_len": 1024, "enable_lora": True, "max_loras": 2, "max_cpu_loras": 8},
    )
    directory = tmp_path_factory.mktemp("hot")
    with serving(args, directory, uid="e2e-hot") as served:
        yield served


def push(registry: RunningRegistry, weights: Path, root: Path, name: str, seed: int) -> str:
    """Push a LoRA adapter with random weights in KAITO's layout; return its reference."""
    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(weights)
    lora = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(root / name)
    return registry.push_adapter(root / name, f"team/{name}:v1")


class Load:
    """Clients that stream all the time and write down whatever is not a whole answer."""

    def __init__(self, url: str, models: tuple[str, ...]) -> None:
        self._url, self._models = url, itertools.cycle(models)
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.whole = 0
        self.listed = 0

    def running(self) -> AbstractContextManager[None]:
        return running(self._stop, [self._client] * CLIENTS + [self._lister] * LISTERS)

    def _client(self) -> None:
        with httpx.Client(base_url=self._url, timeout=120) as http:
            while not self._stop.is_set():
                model = next(self._models)
                body = {
                    "model": model,
                    "prompt": "Once upon a time",
                    "max_tokens": 12,
                    "stream": True,
                    "ignore_eos": True,
                }
                try:
                    with http.stream("POST", "/v1/completions", json=body) as answer:
                        lines = [line for line in answer.iter_lines() if line]
                except httpx.HTTPError as error:
                    self.failures.append(f"{model}: {error!r}")
                    continue
                if answer.status_code != 200 or lines[-1] != "data: [DONE]":
                    self.failures.append(f"{model}: {answer.status_code} {lines[-1:]}")
                self.whole += 1

    def _lister(self) -> None:
        """Ask often and on new connections, so that no moment without a way to the replica goes unseen."""
        while not self._stop.is_set():
            try:
                answer = httpx.get(f"{self._url}/v1/models", timeout=60)
            except httpx.HTTPError as error:
                self.failures.append(f"list: {error!r}")
                continue
            if answer.status_code != 200:
                self.failures.append(f"list: {answer.status_code}")
            self.listed += 1
            time.sleep(0.01)


def becomes(http: httpx.Client, wanted: dict[str, str], *, within_s: float = 60) -> None:
    """Wait until the adapters have these states."""
    deadline = time.monotonic() + within_s
    while {a["name"]: a["state"] for a in http.get("/adapters").json()["adapters"]} != wanted:
        assert time.monotonic() < deadline, http.get("/adapters").text
        time.sleep(0.05)


def first_token_s(http: httpx.Client, model: str, *, within_s: float = 60) -> float:
    """Return how long it takes until `model` answers."""
    started = time.monotonic()
    body = {"model": model, "prompt": "Hello", "max_tokens": 1}
    while http.post("/v1/completions", json=body).status_code != 200:
        assert time.monotonic() - started < within_s
        time.sleep(0.05)
    return time.monotonic() - started


@contextmanager
def begun(http: httpx.Client, model: str) -> Iterator[Iterator[str]]:
    """A long answer of which the first line has come; the lines to come."""
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 120, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: {")
        yield lines


def replica(served: Served) -> str:
    (only,) = served.application()["deployments"][names.DEPLOYMENT]["replicas"]
    return str(only["actor_id"])


def test_no_request_notices_that_adapters_change(
    served: Served,
    registry: RunningRegistry,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = (push(registry, weights, tmp_path, name, seed) for seed, name in enumerate(("one", "two")))
    stays = UserAdapter(name="stays", image=one)
    served.put(UserConfig(adapters=(stays,)))
    with httpx.Client(base_url=served.url, timeout=120) as http:
        becomes(http, {"stays": "Ready"})
        before = replica(served)
        load = Load(served.url, (PRESET, "stays"))
        with load.running():
            time.sleep(2)
            first = UserAdapter(name="comes", image=two)
            served.put(UserConfig(adapters=(stays, first)))
            seconds = first_token_s(http, "comes")
            for strength in (0.5, 0.25, 0.75, 0.0, 1.0):
                for image in (one, two):
                    changed = UserAdapter(name="comes", image=image, strength=strength)
                    served.put(UserConfig(adapters=(stays, changed)))
                    served.wait()
                    becomes(http, {"stays": "Ready", "comes": "Ready"})
            with begun(http, "comes") as lines:
                served.put(UserConfig(adapters=(stays,)))
                served.wait()
                becomes(http, {"stays": "Ready"})
                later = http.post("/v1/completions", json={"model": "comes", "prompt": "x"})
                assert (later.status_code, later.json()["error"]["type"]) == (404, "NotFoundError")
                assert f"served here: {PRESET}, stays" in later.json()["error"]["message"]
                assert [line for line in lines if line][-1] == "data: [DONE]"
            time.sleep(2)
    with capsys.disabled():
        print(
            json.dumps({"put_to_first_token_s": round(seconds, 2), "whole_answers": load.whole, "lists": load.listed})
        )
    assert load.failures == []
    assert load.whole > CLIENTS
    assert load.listed > CLIENTS
    assert replica(served) == before
