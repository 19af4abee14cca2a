from pathlib import Path

import pytest

from deployments.engine_args import engine_kwargs, environment
from kaito_ray.api.app_args import AppArgs, ModelSource

ARGS = AppArgs(workspace="w", namespace="n", served_model_name="m", source=ModelSource(local_dir="/m"))
CPU = ARGS.model_copy(update={"device": "cpu"})


def test_no_other_site_may_read_answers() -> None:
    assert engine_kwargs(ARGS)["allowed_origins"] == []


def test_prompts_are_not_logged() -> None:
    assert engine_kwargs(ARGS)["enable_log_requests"] is False


def test_a_cpu_runs_eagerly_with_a_bounded_kv_cache() -> None:
    kwargs = engine_kwargs(CPU)
    assert kwargs["enforce_eager"] is True
    assert kwargs["kv_cache_memory_bytes"] == 2**30


def test_a_gpu_has_neither() -> None:
    assert not engine_kwargs(ARGS).keys() & {"enforce_eager", "kv_cache_memory_bytes"}


def test_the_plan_wins_over_our_defaults() -> None:
    args = CPU.model_copy(update={"engine_args": {"kv_cache_memory_bytes": 5, "max_model_len": 7}})
    assert engine_kwargs(args).items() >= {"kv_cache_memory_bytes": 5, "max_model_len": 7}.items()


@pytest.mark.parametrize(
    ("field", "value", "kwargs"),
    [
        ("tool_call_parser", "hermes", {"tool_call_parser": "hermes", "enable_auto_tool_choice": True}),
        ("reasoning_parser", "qwen3", {"reasoning_parser": "qwen3"}),
        ("chat_template", "{{ x }}", {"chat_template": "{{ x }}"}),
        ("trust_remote_code", True, {"trust_remote_code": True}),
    ],
)
def test_an_argument_reaches_vllm(field: str, value: object, kwargs: dict[str, object]) -> None:
    assert engine_kwargs(ARGS.model_copy(update={field: value})).items() >= kwargs.items()


def test_no_remote_code_unless_asked_for() -> None:
    assert "trust_remote_code" not in engine_kwargs(ARGS)


def test_the_replica_finds_the_log_configuration() -> None:
    assert Path(environment(ARGS)["VLLM_LOGGING_CONFIG_PATH"]).is_file()


def test_threads_are_pinned_to_cores_by_nobody() -> None:
    assert environment(CPU)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
