import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kaito_ray.catalog.gpus import Machine, machine, machines
from kaito_ray.catalog.load import find, presets
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UnsupportedGPU, UserError
from kaito_ray.estimator import overhead
from kaito_ray.estimator.kv_cache import CacheLayout, sequence_bytes
from kaito_ray.estimator.options import CUDA_12, ROCM
from kaito_ray.estimator.plan import (
    ServingOptions,
    ServingPlan,
    cheapest,
    choose,
    compare,
    explained,
    left_out,
    plan_serving,
)

GIB = 2**30
LAPTOP = Machine("local", "byo", "cpu", vendor="none", cpus=2, memory_bytes=24 * GIB)


def on(instance_type: str) -> Machine:
    found = machine(instance_type)
    assert found is not None
    return found


def plan(model: str, instance_type: str, **wishes: object) -> ServingPlan:
    offered = machine(instance_type)
    assert offered is not None
    return plan_serving(find(model), offered, ServingOptions(**wishes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "instance_type", "split"),
    [
        pytest.param("llama-3.1-8b-instruct", "Standard_NC24ads_A100_v4", (1, 1, 1, 1), id="one GPU is enough"),
        pytest.param("phi-4", "Standard_ND96isr_H100_v5", (1, 1, 1, 8), id="a small model is copied to 8 GPUs"),
        pytest.param("llama-3.3-70b-instruct", "Standard_ND96isr_H100_v5", (1, 4, 1, 2), id="TP below the node"),
        pytest.param("phi-4", "g5.12xlarge", (1, 2, 1, 2), id="10 KV heads are halved, not quartered"),
        pytest.param("deepseek-r1-0528", "Standard_ND96isr_H100_v5", (2, 8, 2, 1), id="stages across machines"),
        pytest.param("phi-4", "Standard_NV36ads_A10_v5", (2, 1, 2, 1), id="two machines of one GPU"),
        pytest.param("deepseek-r1-0528", "Standard_ND96isr_H200_v5", (1, 8, 1, 1), id="one machine of 8 large GPUs"),
    ],
)
def test_the_split(model: str, instance_type: str, split: tuple[int, int, int, int]) -> None:
    found = plan(model, instance_type)
    assert (found.nodes, found.tensor_parallel, found.pipeline_parallel, found.data_parallel) == split


def test_layers_are_divided_inside_a_machine_where_heads_cannot_be() -> None:
    seven_heads = find("llama-3.3-70b-instruct")
    odd = seven_heads.model_copy(update={"shape": seven_heads.shape.model_copy(update={"heads": 63})})
    offered = machine("Standard_NC48ads_A100_v4")
    assert offered is not None
    found = plan_serving(odd, offered, ServingOptions(context_length_tokens=2048))
    assert (found.nodes, found.tensor_parallel, found.pipeline_parallel) == (1, 1, 2)
    assert "pipeline parallel 2: the heads cannot be divided further, the layers can" in found.why


def exactly(model: str, tokens: int) -> Machine:
    """A GPU with not a byte more than the model and one sequence need."""
    preset = find(model)
    weights = preset.weights_bytes
    need = weights + overhead.gpu_overhead(weights) + sequence_bytes(preset.shape, tokens, CacheLayout())
    return Machine("exact", "test", "cuda", gpu_model="NVIDIA Exact", gpu_count=1, gpu_memory_bytes=need)


def test_an_exact_fit_fits() -> None:
    wishes = ServingOptions(context_length_tokens=2048, memory_utilization=1.0, max_nodes=1)
    found = plan_serving(find("llama-3.1-8b-instruct"), exactly("llama-3.1-8b-instruct", 2048), wishes)
    assert (found.nodes, found.concurrent_sequences) == (1, 1)


def test_a_byte_less_does_not_fit() -> None:
    wishes = ServingOptions(context_length_tokens=2048, memory_utilization=1.0, max_nodes=1)
    tight = exactly("llama-3.1-8b-instruct", 2048)
    with pytest.raises(DoesNotFit):
        plan_serving(find("llama-3.1-8b-instruct"), replace(tight, gpu_memory_bytes=tight.gpu_memory_bytes - 1), wishes)


def test_an_8_bit_cache_holds_twice_the_tokens() -> None:
    sixteen = plan("llama-3.1-8b-instruct", "g6.xlarge", max_nodes=1)
    eight = plan("llama-3.1-8b-instruct", "g6.xlarge", max_nodes=1, kv_cache_dtype="fp8")
    assert eight.context_length_tokens == pytest.approx(2 * sixteen.context_length_tokens, abs=32)


def test_a_preset_s_own_cache_type_is_used_and_told() -> None:
    assert plan("glm-5.2-fp8", "Standard_ND96isr_H200_v5").kv_cache_dtype == "fp8"


def test_adapters_take_memory_from_the_cache() -> None:
    without, with_four = (
        plan("phi-4", "Standard_NC24ads_A100_v4"),
        plan("phi-4", "Standard_NC24ads_A100_v4", adapters=4),
    )
    taken = without.memory.kv_cache_bytes - with_four.memory.kv_cache_bytes
    assert taken == overhead.lora_slots(find("phi-4").shape, adapters=4, rank=64)


def test_a_windowed_model_is_given_short_steps_and_told() -> None:
    assert plan("gemma-3-27b-it", "Standard_NC24ads_A100_v4").max_batched_tokens == 2048
    assert plan("phi-4", "Standard_NC24ads_A100_v4").max_batched_tokens is None


def test_the_context_is_what_was_asked_for() -> None:
    found = plan("phi-4", "Standard_NC24ads_A100_v4", context_length_tokens=4096)
    assert found.context_length_tokens == 4096
    assert "context 4096 tokens: as asked" in found.why


def test_a_context_beyond_the_model_names_its_limit() -> None:
    with pytest.raises(InvalidWorkspace, match=r"inference.config: max-model-len 20000 .* at most 16384"):
        plan("phi-4", "Standard_NC24ads_A100_v4", context_length_tokens=20000)


def test_a_gpu_without_bfloat16_is_planned_in_float16() -> None:
    found = plan("llama-3.1-8b-instruct", "g4dn.12xlarge")
    assert found.dtype == "float16"
    assert "dtype float16: NVIDIA T4 has no bfloat16" in found.why


def test_asking_for_bfloat16_on_it_names_what_it_has() -> None:
    with pytest.raises(
        UnsupportedGPU, match=r"llama-3.1-8b-instruct on 4 x NVIDIA T4 does not compute bfloat16; use float16"
    ):
        plan("llama-3.1-8b-instruct", "g4dn.12xlarge", dtype="bfloat16")


def test_a_model_that_overflows_in_float16_is_planned_in_float32_there() -> None:
    found = plan("gemma-3-4b-it", "g4dn.12xlarge")
    assert found.dtype == "float32"
    assert found.memory.weights_bytes * found.tensor_parallel > 1.9 * find("gemma-3-4b-it").weights_bytes
    assert "dtype float32: NVIDIA T4 has no bfloat16, and gemma-3-4b-it overflows in float16" in found.why


def test_of_equal_gpus_the_smallest_host_that_holds_as_much_is_chosen() -> None:
    assert (
        cheapest(find("llama-3.1-8b-instruct"), machines("aws"), ServingOptions()).machine.instance_type == "g5.2xlarge"
    )


def test_auto_is_no_wish() -> None:
    assert plan("phi-4", "Standard_NC24ads_A100_v4", dtype="auto").dtype == "bfloat16"


def test_a_v100_is_unsupported_unless_an_image_with_an_older_cuda_is_configured() -> None:
    with pytest.raises(UnsupportedGPU, match=r"compute capability 7.0, the CUDA 13 engine image needs 7.5"):
        plan("phi-3-mini-4k-instruct", "p3.2xlarge")
    assert plan("phi-3-mini-4k-instruct", "p3.2xlarge", image=CUDA_12).dtype == "float16"


def test_an_amd_gpu_is_planned_for_a_rocm_image_only() -> None:
    with pytest.raises(UnsupportedGPU, match="AMD Instinct MI300X cannot run the CUDA 13 engine image"):
        plan("llama-3.3-70b-instruct", "Standard_ND96isr_MI300X_v5")
    found = plan("llama-3.3-70b-instruct", "Standard_ND96isr_MI300X_v5", image=ROCM)
    assert (found.tensor_parallel, found.data_parallel) == (1, 8)


def test_of_amd_s_gpus_the_rocm_image_runs_on_those_that_vllm_names() -> None:
    with pytest.raises(UnsupportedGPU, match="Radeon Pro V520 is not among the GPUs of the ROCm engine image"):
        plan_serving(find("smollm2"), on("g4ad.xlarge"), ServingOptions(image=ROCM))


def test_a_packed_model_needs_a_gpu_with_its_kernels() -> None:
    with pytest.raises(UnsupportedGPU, match=r"the kernels for mxfp4 need 8.0"):
        plan_serving(find("gpt-oss-20b"), on("g4dn.metal"), ServingOptions())
    assert plan_serving(find("qwen3-8b-awq"), on("g4dn.metal"), ServingOptions()).dtype == "float16"


def test_an_image_of_one_s_own_is_named_among_the_reasons() -> None:
    why = plan_serving(find("smollm2"), on("p3.2xlarge"), ServingOptions(image=CUDA_12)).why
    assert why[-1] == "engine image CUDA 12: your own"


@pytest.mark.parametrize("provider", ["azure", "aws"])
def test_the_gpu_that_is_named_as_the_next_one_does_fit(provider: str) -> None:
    refusals = [(preset, told) for preset in presets().values() for told in map(str, refused(preset, provider))]
    named = [(preset, found[1]) for preset, told in refusals if (found := re.search(r"or more: (\S+) \(", told))]
    assert len(named) > 100
    for preset, instance_type in named:
        assert plan_serving(preset, on(instance_type), ServingOptions(max_nodes=1)), preset.name


def refused(preset: ModelPreset, provider: str) -> Iterator[DoesNotFit]:
    for offered in machines(provider):
        try:
            plan_serving(preset, offered, ServingOptions(max_nodes=1))
        except DoesNotFit as error:
            yield error
        except UnsupportedGPU:
            continue


def test_a_variant_of_the_catalog_is_named_where_it_would_fit() -> None:
    with pytest.raises(DoesNotFit, match=r"use qwen3.6-35b-a3b-fp8, which is quantised"):
        plan_serving(find("qwen3.6-35b-a3b"), on("g6e.xlarge"), ServingOptions(max_nodes=1))


def test_what_was_passed_over_is_told_with_the_plan() -> None:
    why = choose(find("phi-4"), [on("g6.xlarge"), on("g6e.xlarge")], ServingOptions(max_nodes=1)).why
    assert why[0].startswith("not g6.xlarge: phi-4 does not fit")
    assert ";" not in why[0]


def test_what_a_comparison_left_out_is_told() -> None:
    machines = [on(n) for n in ("g6.xlarge", "g6e.xlarge", "g4ad.xlarge")]
    told = left_out(find("phi-4"), machines, ServingOptions(max_nodes=1))
    assert [line.partition(":")[0] for line in told] == ["g6.xlarge", "g4ad.xlarge"]
    assert [p.machine.instance_type for p in explained(find("phi-4"), machines, ServingOptions(max_nodes=1))] == [
        "g6e.xlarge"
    ]


def test_a_fixed_tensor_parallel_degree_is_kept() -> None:
    assert plan("phi-4", "Standard_ND96isr_H100_v5", tensor_parallel=2).data_parallel == 4


def test_an_impossible_one_names_those_that_are_possible() -> None:
    with pytest.raises(InvalidWorkspace, match=r"tensor-parallel-size 4 is not possible.*use 1 or 2$"):
        plan("phi-4", "Standard_ND96isr_H100_v5", tensor_parallel=4)


def test_an_impossible_pipeline_degree_is_refused() -> None:
    with pytest.raises(InvalidWorkspace, match=r"pipeline-parallel-size 41 is not possible for phi-4 \(40 layers\)"):
        plan("phi-4", "Standard_NC24ads_A100_v4", pipeline_parallel=41)


def test_what_does_not_fit_says_which_context_would() -> None:
    with pytest.raises(DoesNotFit) as refused:
        plan("llama-3.1-8b-instruct", "g6.xlarge", context_length_tokens=131072, max_nodes=1)
    tokens = int(str(refused.value).split("max-model-len to ")[1].split()[0])
    assert plan("llama-3.1-8b-instruct", "g6.xlarge", context_length_tokens=tokens, max_nodes=1).nodes == 1


def test_what_does_not_fit_says_which_gpu_memory_would() -> None:
    with pytest.raises(DoesNotFit) as refused:
        plan("llama-3.3-70b-instruct", "g6.xlarge", max_nodes=1)
    memory = float(str(refused.value).split("use a GPU with ")[1].split()[0])
    larger = Machine("x", "test", "cuda", gpu_model="NVIDIA X", gpu_count=1, gpu_memory_bytes=int(memory * GIB))
    assert plan_serving(find("llama-3.3-70b-instruct"), larger, ServingOptions(max_nodes=1)).nodes == 1


def test_what_does_not_fit_offers_a_quantised_variant_where_that_would() -> None:
    with pytest.raises(DoesNotFit, match="use a variant quantised to 8 bits"):
        plan("phi-4", "g6.xlarge", max_nodes=1, context_length_tokens=2048)


def test_the_first_machine_that_fits_is_chosen_in_the_order_given() -> None:
    names = ("p3.2xlarge", "Standard_NC40ads_H100_v5", "Standard_NC24ads_A100_v4")
    offers = [m for name in names if (m := machine(name))]
    assert choose(find("phi-4"), offers, ServingOptions()).machine.instance_type == "Standard_NC40ads_H100_v5"


def test_when_none_fits_each_says_why() -> None:
    offers = [m for name in ("p3.2xlarge", "g6.xlarge") if (m := machine(name))]
    with pytest.raises(DoesNotFit, match=r"p3.2xlarge: .*compute capability.*; g6.xlarge: .*does not fit"):
        choose(find("llama-3.3-70b-instruct"), offers, ServingOptions(max_nodes=1))


def test_without_a_wish_one_machine_with_the_least_gpu_memory_is_the_cheapest() -> None:
    found = cheapest(find("llama-3.3-70b-instruct"), machines("azure"), ServingOptions())
    assert found.nodes == 1
    assert found.machine.instance_type == "Standard_NC80adis_H100_v5"
    assert found.why[0].startswith("Standard_NC80adis_H100_v5: the fewest machines, then the least GPU memory, of ")


def test_a_machine_without_a_price_comes_after_those_that_have_one() -> None:
    offers = [m for name in ("g6.2xlarge", "Standard_NC24ads_A100_v4") if (m := machine(name))]
    priced = [offers[0], replace(offers[1], price_per_hour=3.7)]
    found = [p.machine.instance_type for p in compare(find("llama-3.1-8b-instruct"), priced, ServingOptions())]
    assert found == ["Standard_NC24ads_A100_v4", "g6.2xlarge"]


def test_prices_decide() -> None:
    offers = [m for name in ("Standard_NC24ads_A100_v4", "Standard_NC40ads_H100_v5") if (m := machine(name))]
    priced = [replace(m, price_per_hour=p) for m, p in zip(offers, (3.7, 2.5), strict=True)]
    found = cheapest(find("phi-4"), priced, ServingOptions())
    assert (found.machine.instance_type, found.price_per_hour) == ("Standard_NC40ads_H100_v5", 2.5)


def test_no_machine_on_offer_is_said() -> None:
    for pick in (choose, cheapest):
        with pytest.raises(DoesNotFit, match="no machine is on offer for phi-4"):
            pick(find("phi-4"), [], ServingOptions())


def test_a_laptop_serves_smollm() -> None:
    found = plan_serving(find("smollm2-135m-instruct"), LAPTOP, ServingOptions())
    assert found.memory.kv_cache_bytes == 4 * GIB
    assert (found.dtype, found.context_length_tokens, found.nodes) == ("bfloat16", 8192, 1)


def test_a_cpu_s_cache_is_a_quarter_of_what_is_left() -> None:
    small = replace(LAPTOP, memory_bytes=8 * GIB)
    found = plan_serving(find("smollm2-135m-instruct"), small, ServingOptions())
    left = 8 * GIB - found.memory.weights_bytes - found.memory.overhead_bytes
    assert found.memory.kv_cache_bytes == left // 4


def test_a_cpu_s_context_is_kept_short_unless_asked_for() -> None:
    large = replace(LAPTOP, memory_bytes=256 * GIB)
    found = plan_serving(find("llama-3.1-8b-instruct"), large, ServingOptions())
    assert found.context_length_tokens == 8192
    assert "context 8192 tokens: of 131072; longer prompts take minutes on a CPU" in found.why
    asked = plan_serving(find("llama-3.1-8b-instruct"), large, ServingOptions(context_length_tokens=65536))
    assert asked.context_length_tokens == 65536


def test_replicas_share_a_cpu_host() -> None:
    two = plan_serving(find("smollm2-135m-instruct"), replace(LAPTOP, memory_bytes=8 * GIB), ServingOptions(replicas=2))
    assert 2 * (two.memory.kv_cache_bytes + two.memory.weights_bytes + two.memory.overhead_bytes) <= 8 * GIB


def test_one_more_replica_changes_nothing_for_the_others_while_memory_lasts() -> None:
    plans = [plan_serving(find("smollm2-135m-instruct"), LAPTOP, ServingOptions(replicas=n)) for n in (1, 2, 4)]
    assert len({plan.memory.kv_cache_bytes for plan in plans}) == 1


def test_too_large_for_a_cpu_says_what_it_needs() -> None:
    with pytest.raises(
        DoesNotFit, match=r"llama-3.3-70b-instruct needs 134\..* GiB of memory at 2048 tokens; local has"
    ):
        plan_serving(find("llama-3.3-70b-instruct"), LAPTOP, ServingOptions())


def test_fp8_weights_need_a_gpu() -> None:
    with pytest.raises(UnsupportedGPU, match="quantised with fp8, which needs a GPU"):
        plan_serving(find("deepseek-v3.2"), LAPTOP, ServingOptions())


def test_a_host_of_unknown_memory_is_refused() -> None:
    with pytest.raises(UserError, match="its memory is unknown"):
        plan_serving(find("smollm2-135m-instruct"), replace(LAPTOP, memory_bytes=None), ServingOptions())


def test_the_status_says_what_the_plan_says() -> None:
    found = replace(plan("phi-4", "Standard_NV36ads_A10_v5"), requested_instance_type="Standard_NC6s_v3")
    status = found.to_status()
    assert (status.instance_type, status.requested_instance_type) == ("Standard_NV36ads_A10_v5", "Standard_NC6s_v3")
    assert (status.nodes, status.pipeline_parallel, status.memory, status.why) == (2, 2, found.memory, found.why)
