import pytest

from kaito_ray.catalog.load import find
from kaito_ray.estimator.overhead import GIB, gpu_overhead, lora_slots
from kaito_ray.estimator.weights import stage_layers, weights_per_gpu

PHI = find("phi-4")


def test_one_gpu_holds_the_checkpoint_exactly() -> None:
    assert weights_per_gpu(PHI, dtype="bfloat16") == PHI.weights_bytes == 29323889213


def test_tensor_parallelism_divides_all_but_what_it_copies() -> None:
    assert weights_per_gpu(PHI, dtype="bfloat16", tensor_parallel=2) == 14955183499


def test_float32_doubles_what_is_not_packed() -> None:
    packed = find("qwen3-8b-awq")
    assert weights_per_gpu(PHI, dtype="float32") == 2 * PHI.weights_bytes
    assert weights_per_gpu(packed, dtype="float32") == packed.weights_bytes


def test_the_first_and_last_stage_hold_an_embedding_too() -> None:
    embedding = 100352 * 5120 * 2
    layer = (PHI.weights_bytes - 2 * embedding) / 40
    assert weights_per_gpu(PHI, dtype="bfloat16", pipeline_parallel=40) == pytest.approx(layer + embedding, abs=1)


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [(61, 4, (15, 15, 16, 15)), (32, 4, (8, 8, 8, 8)), (7, 4, (2, 2, 2, 1)), (5, 2, (3, 2)), (3, 3, (1, 1, 1))],
)
def test_layers_that_do_not_divide_go_before_the_last_stage(
    layers: int, stages: int, expected: tuple[int, ...]
) -> None:
    assert stage_layers(layers, stages) == expected


def test_overhead_is_constants_and_a_share_of_the_weights() -> None:
    assert gpu_overhead(100 * GIB) == pytest.approx((0.6 + 1.7 + 5) * GIB, abs=2)


def test_lora_slots_of_llama() -> None:
    llama = find("llama-3.1-8b-instruct").shape
    assert lora_slots(llama, adapters=1, rank=16) == 92356608
    assert lora_slots(llama, adapters=3, rank=16) == 3 * 92356608
    assert lora_slots(llama, adapters=0, rank=16) == 0


def test_tensor_parallelism_divides_only_one_half_of_an_adapter() -> None:
    llama = find("llama-3.1-8b-instruct").shape
    assert lora_slots(llama, adapters=1, rank=16, tensor_parallel=8) > 92356608 // 4
