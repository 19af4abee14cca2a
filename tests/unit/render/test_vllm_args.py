"""Plan -> engine arguments."""

from kaito_ray.api.workspace import InferenceSpec
from kaito_ray.catalog.load import find
from kaito_ray.render.inference_config import InferenceConfig
from kaito_ray.render.vllm_args import engine_args, serving_options
from kaito_ray.testing.builders import workspace
from kaito_ray.testing.plans import GIB, gpu_plan, inputs


def test_on_a_cpu_the_cache_is_given_in_bytes() -> None:
    assert engine_args(inputs()) == {
        "dtype": "bfloat16",
        "enable_lora": True,
        "kv_cache_memory_bytes": 2 * GIB,
        "max_cpu_loras": 16,
        "max_lora_rank": 64,
        "max_loras": 1,
        "max_model_len": 2048,
    }


def test_on_gpus_the_split_and_the_share_of_memory_are_the_plans() -> None:
    args = engine_args(inputs(plan=gpu_plan(nodes=2, pipeline_parallel=2)))
    assert (args["tensor_parallel_size"], args["pipeline_parallel_size"]) == (2, 2)
    assert args["gpu_memory_utilization"] == 0.9


def test_a_persons_options_win_and_are_sorted_in() -> None:
    config = InferenceConfig(planned={"max_num_batched_tokens": 512}, engine={"seed": 7, "enforce_eager": True})
    args = engine_args(inputs(config=config))
    assert list(args) == sorted(args)
    assert (args["seed"], args["enforce_eager"], args["max_num_batched_tokens"]) == (7, True, 512)


def test_the_performance_mode_is_kaitos_annotation() -> None:
    def mode(value: str) -> object:
        annotated = workspace(metadata={"annotations": {"kaito.sh/performance-mode": value}})
        return engine_args(inputs(annotated)).get("performance_mode")

    assert (mode("throughput"), mode("balanced")) == ("throughput", None)


def test_the_planner_is_asked_for_what_the_config_says() -> None:
    config = InferenceConfig(planned={"max_model_len": 1024, "gpu_memory_utilization": 0.5, "tensor_parallel_size": 2})
    options = serving_options(find("smollm2"), InferenceSpec(), config)
    assert (options.context_length_tokens, options.memory_utilization, options.tensor_parallel) == (1024, 0.5, 2)
