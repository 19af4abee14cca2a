"""What must hold for any model on any machine."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kaito_ray.catalog.gpus import Machine, machines
from kaito_ray.catalog.load import presets
from kaito_ray.catalog.models import ModelPreset
from kaito_ray.errors import DoesNotFit, UnsupportedGPU
from kaito_ray.estimator.kv_cache import CacheLayout, sequence_bytes
from kaito_ray.estimator.plan import ServingOptions, ServingPlan, plan_serving

GIB = 2**30
MODELS = st.sampled_from(sorted(presets().values(), key=lambda p: p.name))
GPUS = st.sampled_from([m for m in machines() if m.vendor == "nvidia" and (m.compute_capability or 0) >= 7.5])
CPUS = st.sampled_from([m for m in machines() if m.device == "cpu"])
CONTEXTS = st.one_of(st.none(), st.integers(min_value=16, max_value=131072))
ADAPTERS = st.integers(min_value=0, max_value=8)


def planned(preset: ModelPreset, machine: Machine, options: ServingOptions) -> ServingPlan | None:
    try:
        return plan_serving(preset, machine, options)
    except (DoesNotFit, UnsupportedGPU):
        return None


def wish(preset: ModelPreset, context: int | None, adapters: int = 0) -> ServingOptions:
    return ServingOptions(
        context_length_tokens=None if context is None else min(context, preset.max_model_len), adapters=adapters
    )


@settings(max_examples=300, deadline=None)
@given(preset=MODELS, machine=GPUS, context=CONTEXTS, more=st.integers(min_value=0, max_value=200 * GIB))
def test_more_memory_never_needs_more_machines(
    preset: ModelPreset, machine: Machine, context: int | None, more: int
) -> None:
    options = wish(preset, context)
    small = planned(preset, machine, options)
    large = planned(preset, replace(machine, gpu_memory_bytes=machine.gpu_memory_bytes + more), options)
    assert small is None or (large is not None and large.nodes <= small.nodes)


@settings(max_examples=300, deadline=None)
@given(preset=MODELS, machine=GPUS, contexts=st.tuples(st.integers(16, 131072), st.integers(16, 131072)))
def test_a_longer_context_never_needs_fewer_machines(
    preset: ModelPreset, machine: Machine, contexts: tuple[int, int]
) -> None:
    short, long = sorted(contexts)
    fewer, more = planned(preset, machine, wish(preset, short)), planned(preset, machine, wish(preset, long))
    assert more is None or (fewer is not None and fewer.nodes <= more.nodes)


@settings(max_examples=300, deadline=None)
@given(preset=MODELS, machine=GPUS, context=CONTEXTS, adapters=ADAPTERS)
def test_a_plan_satisfies_its_own_constraints(
    preset: ModelPreset, machine: Machine, context: int | None, adapters: int
) -> None:
    plan = planned(preset, machine, wish(preset, context, adapters))
    if plan is None:
        return
    assert plan.tensor_parallel * plan.pipeline_parallel * plan.data_parallel == plan.nodes * machine.gpu_count
    assert preset.shape.divides(plan.tensor_parallel)
    assert plan.pipeline_parallel <= preset.shape.layers
    memory = plan.memory
    assert memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes == machine.gpu_memory_bytes
    assert plan.context_length_tokens <= preset.max_model_len
    assert plan.concurrent_sequences >= plan.data_parallel
    assert plan.dtype in machine.dtypes
    assert len(plan.why) >= 3


@settings(max_examples=300, deadline=None)
@given(preset=MODELS, machine=GPUS)
def test_the_chosen_context_is_the_longest_that_fits(preset: ModelPreset, machine: Machine) -> None:
    plan = planned(preset, machine, ServingOptions(max_nodes=1))
    if plan is None or plan.context_length_tokens == preset.max_model_len:
        return
    longer = ServingOptions(
        context_length_tokens=plan.context_length_tokens + 16,
        tensor_parallel=plan.tensor_parallel,
        pipeline_parallel=plan.pipeline_parallel,
        max_nodes=1,
    )
    assert planned(preset, machine, longer) is None


@settings(max_examples=200, deadline=None)
@given(preset=MODELS, machine=CPUS, context=CONTEXTS, more=st.integers(min_value=0, max_value=200 * GIB))
def test_a_cpu_plan_fits_its_host_and_stays_with_more_memory(
    preset: ModelPreset, machine: Machine, context: int | None, more: int
) -> None:
    if preset.quantization is not None:
        return
    options = wish(preset, context)
    plan = planned(preset, machine, options)
    if plan is None:
        return
    memory = plan.memory
    assert machine.memory_bytes is not None
    assert memory.weights_bytes + memory.kv_cache_bytes + memory.overhead_bytes <= machine.memory_bytes
    assert planned(preset, replace(machine, memory_bytes=machine.memory_bytes + more), options) is not None


@settings(max_examples=300, deadline=None)
@given(
    preset=MODELS,
    lengths=st.tuples(st.integers(1, 300_000), st.integers(1, 300_000)),
    stages=st.integers(1, 8),
)
def test_a_longer_sequence_never_takes_less_cache(preset: ModelPreset, lengths: tuple[int, int], stages: int) -> None:
    layout = CacheLayout(pipeline_parallel=stages)
    short, long = sorted(lengths)
    assert sequence_bytes(preset.shape, short, layout) <= sequence_bytes(preset.shape, long, layout)
