"""What operators look at: health, metrics, logs; and what stays closed."""

import json
import uuid

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from vllm.v1.engine.exceptions import EngineDeadError

from deployments.routes import health
from tests.e2e.serving.conftest import PRESET
from tests.e2e.serving.serve import Served

pytestmark = pytest.mark.engine

EVIL = {"origin": "https://evil.example"}


def test_health_has_kaitos_body(http: httpx.Client) -> None:
    response = http.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "Healthy"})


def test_a_dead_engine_is_not_healthy() -> None:
    class Dead:
        async def check_health(self) -> None:
            raise EngineDeadError

    app = FastAPI()
    app.include_router(health.router)
    app.state.engine_client = Dead()
    response = TestClient(app).get("/health")
    assert (response.status_code, response.json()) == (503, {"status": "Engine is dead"})


def test_metrics_keep_vllms_names(http: httpx.Client) -> None:
    http.post("/chat", json={"prompt": "Hi", "generate_kwargs": {"max_new_tokens": 1}})
    text = http.get("/metrics").text
    for name in (
        "vllm:num_requests_running",
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_bucket",
    ):
        assert f"{name}{{" in text
    assert f'model_name="{PRESET}"' in text


def test_no_other_origin_may_read_answers(http: httpx.Client) -> None:
    preflight = http.options("/v1/models", headers={**EVIL, "access-control-request-method": "GET"})
    assert preflight.status_code == 400
    for response in (preflight, http.get("/v1/models", headers=EVIL)):
        assert "access-control-allow-origin" not in response.headers


def test_adapters_are_not_loaded_by_whoever_reaches_the_port(http: httpx.Client) -> None:
    body = {"lora_name": "x", "lora_path": "/tmp"}
    assert http.post("/v1/load_lora_adapter", json=body).status_code == 404


def test_logs_are_json_lines_of_replica_and_engine_without_prompts(served: Served, http: httpx.Client) -> None:
    secret = f"secret{uuid.uuid4().hex}"
    conversation = [{"role": "user", "content": secret}]
    http.post("/chat", json={"prompt": secret, "generate_kwargs": {"max_new_tokens": 2}})
    http.post("/chat", json={"prompt": secret, "generate_kwargs": {"typical_p": 2}})
    http.post("/v1/chat/completions", json={"model": PRESET, "messages": conversation, "max_tokens": 2})
    http.post("/v1/chat/completions", json={"model": PRESET, "messages": conversation, "temperature": -1})
    text = served.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"time"')]
    assert {"ray.serve", "vllm.v1.engine.core"} <= {line["logger"] for line in lines}
    assert secret not in text
    for log in served.head.logs.rglob("*.log"):
        assert secret not in log.read_text(errors="replace")
