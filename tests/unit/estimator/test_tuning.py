from dataclasses import replace

import pytest

from kaito_ray.catalog.gpus import Machine, machine
from kaito_ray.catalog.load import find
from kaito_ray.errors import DoesNotFit, InvalidWorkspace, UserError
from kaito_ray.estimator import overhead
from kaito_ray.estimator.tuning import (
    TuningOptions,
    TuningPlan,
    activation_bytes,
    adapter_bytes,
    base_bytes,
    plan_tuning,
)

PHI = find("phi-4")
SMOL = find("smollm2-135m-instruct")
LAPTOP = Machine("local", "byo", "cpu", vendor="none", memory_bytes=16 * 2**30)


def plan(model: str, instance_type: str, **wishes: object) -> TuningPlan:
    offered = machine(instance_type)
    assert offered is not None
    return plan_tuning(find(model), offered, TuningOptions(**wishes))  # type: ignore[arg-type]


def test_lora_keeps_the_base_as_it_is_and_qlora_packs_all_but_embeddings() -> None:
    embeddings = 2 * 100352 * 5120 * 2
    assert base_bytes(PHI, "lora") == PHI.weights_bytes
    assert base_bytes(PHI, "qlora") == 9088824173
    assert base_bytes(PHI, "qlora") - embeddings == pytest.approx((PHI.weights_bytes - embeddings) * 4.127 / 16, abs=1)


def test_tied_embeddings_are_kept_once() -> None:
    embeddings = 49152 * 576 * 2
    assert base_bytes(SMOL, "qlora") == pytest.approx(
        (SMOL.weights_bytes - embeddings) * 4.127 / 16 + embeddings, abs=1
    )


def test_an_adapter_s_weight_takes_16_bytes() -> None:
    parameters = overhead.lora_slots(PHI.shape, adapters=1, rank=8) // 2
    assert adapter_bytes(PHI, TuningOptions(rank=8)) == 16 * parameters


def test_activations_grow_with_tokens_and_batch() -> None:
    one = activation_bytes(PHI, TuningOptions())
    assert activation_bytes(PHI, TuningOptions(batch_size=4)) == 4 * one
    assert activation_bytes(PHI, TuningOptions(max_tokens=4096)) == 4 * one


def test_qlora_fits_where_lora_does_not() -> None:
    with pytest.raises(DoesNotFit, match=r"phi-4 with lora needs .* per worker.*use qlora, or use a GPU"):
        plan("phi-4", "Standard_NV36ads_A10_v5", method="lora")
    assert plan("phi-4", "Standard_NV36ads_A10_v5", method="qlora").nodes == 1


def test_long_examples_are_named_as_the_cause() -> None:
    with pytest.raises(DoesNotFit, match="shorten the examples or the batch"):
        plan("phi-4", "Standard_NV36ads_A10_v5", batch_size=16, max_tokens=4096)


def test_workers_fill_the_devices_of_a_machine_first() -> None:
    assert plan("phi-4", "Standard_NC96ads_A100_v4", workers=4).nodes == 1
    assert plan("phi-4", "Standard_NC96ads_A100_v4", workers=5).nodes == 2


def test_a_laptop_tunes_smollm() -> None:
    found = plan_tuning(SMOL, LAPTOP, TuningOptions(batch_size=4))
    memory = found.memory
    assert memory.kv_cache_bytes == 0
    assert memory.weights_bytes + memory.overhead_bytes < memory.total_bytes


def test_a_packed_model_is_refused_by_field() -> None:
    with pytest.raises(InvalidWorkspace, match=r"tuning.preset.name: qwen3-8b-awq is quantised with awq"):
        plan("qwen3-8b-awq", "Standard_NC24ads_A100_v4")


def test_unknown_memory_is_said() -> None:
    with pytest.raises(UserError, match="its memory is unknown"):
        plan_tuning(SMOL, replace(LAPTOP, memory_bytes=None), TuningOptions())
