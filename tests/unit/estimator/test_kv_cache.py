import pytest

from kaito_ray.catalog.load import find
from kaito_ray.catalog.models import (
    DeltaNet,
    FullAttention,
    LatentAttention,
    LayerGroup,
    Mamba,
    ModelShape,
    SlidingAttention,
    SparseIndex,
)
from kaito_ray.errors import InvalidWorkspace
from kaito_ray.estimator.kv_cache import (
    CacheLayout,
    kv_element_bytes,
    sequence_bytes,
    state_bytes,
    token_bytes,
)

GQA = FullAttention(layers=32, kv_heads=8, head_dim=128)
MQA = FullAttention(layers=32, kv_heads=1, head_dim=128)
WINDOW = SlidingAttention(layers=12, kv_heads=8, head_dim=64, window_tokens=128)
LATENT = LatentAttention(layers=61, kv_lora_rank=512, rope_dim=64, packed_bytes=656)
INDEX = SparseIndex(layers=61, key_dim=128)
MAMBA = Mamba(layers=27, heads=128, head_dim=80, state_size=128, groups=8)
DELTA = DeltaNet(layers=24, key_heads=16, value_heads=32)


def shape(*groups: LayerGroup) -> ModelShape:
    layers = sum(g.layers for g in groups)
    return ModelShape(architecture="Any", hidden_size=4096, layers=layers, heads=32, groups=groups)


@pytest.mark.parametrize(
    ("group", "layout", "expected"),
    [
        pytest.param(GQA, CacheLayout(), 4096, id="keys and values of 8 heads"),
        pytest.param(GQA, CacheLayout(tensor_parallel=8), 512, id="a head on each of 8 ranks"),
        pytest.param(GQA, CacheLayout(tensor_parallel=16), 512, id="heads are copied beyond"),
        pytest.param(MQA, CacheLayout(tensor_parallel=4), 512, id="one head is on every rank"),
        pytest.param(GQA, CacheLayout(element_bytes=1), 2048, id="8 bits halve it"),
        pytest.param(LATENT, CacheLayout(), 1152, id="a latent in 16 bits"),
        pytest.param(LATENT, CacheLayout(tensor_parallel=8), 1152, id="a latent is copied to every rank"),
        pytest.param(LATENT, CacheLayout(element_bytes=1), 656, id="a packed latent"),
        pytest.param(INDEX, CacheLayout(), 132, id="indexer keys and their scale"),
        pytest.param(MAMBA, CacheLayout(), 0, id="a state keeps no tokens"),
    ],
)
def test_bytes_of_one_token_in_one_layer(group: LayerGroup, layout: CacheLayout, expected: int) -> None:
    assert token_bytes(group, layout) == expected


@pytest.mark.parametrize(
    ("group", "layout", "expected"),
    [
        pytest.param(MAMBA, CacheLayout(), 5316608, id="Nemotron-Nano-9B-v2"),
        pytest.param(MAMBA, CacheLayout(tensor_parallel=4), 1329152, id="its heads and groups are divided"),
        pytest.param(DELTA, CacheLayout(), 2146304, id="Qwen3.5-9B"),
        pytest.param(DELTA, CacheLayout(element_bytes=1), 2146304, id="a state's type is not the cache's"),
        pytest.param(GQA, CacheLayout(), 0, id="attention has none"),
    ],
)
def test_bytes_of_one_state(group: LayerGroup, layout: CacheLayout, expected: int) -> None:
    assert state_bytes(group, layout) == expected


def test_mamba_groups_are_copied_where_ranks_outnumber_them() -> None:
    alone = state_bytes(MAMBA.model_copy(update={"groups": 1}), CacheLayout(tensor_parallel=4))
    shared = state_bytes(MAMBA.model_copy(update={"groups": 4}), CacheLayout(tensor_parallel=4))
    assert alone == shared


def test_llama_at_8192_tokens_takes_one_gib() -> None:
    llama = find("llama-3.1-8b-instruct").shape
    assert sequence_bytes(llama, 8192, CacheLayout()) == 2**30
    assert 32 * token_bytes(llama.groups[0], CacheLayout()) == 131072


def test_part_of_a_block_takes_the_block() -> None:
    assert sequence_bytes(shape(GQA), 1, CacheLayout()) == sequence_bytes(shape(GQA), 16, CacheLayout())
    assert sequence_bytes(shape(GQA), 17, CacheLayout()) == 2 * sequence_bytes(shape(GQA), 16, CacheLayout())


def test_a_window_keeps_its_tokens_those_in_flight_and_one_block() -> None:
    layout = CacheLayout(batched_tokens=2048, concurrent_steps=2)
    blocks = -(-(128 - 1 + 2 * 2048) // 16) + 1
    assert sequence_bytes(shape(WINDOW), 100_000, layout) == 12 * 2048 * 16 * blocks


def test_a_window_longer_than_the_sequence_keeps_the_sequence_and_one_block() -> None:
    assert sequence_bytes(shape(WINDOW), 160, CacheLayout()) == 12 * 2048 * (160 + 16)


def test_layers_of_two_kinds_share_blocks_and_the_last_group_is_padded() -> None:
    mixed = shape(FullAttention(layers=10, kv_heads=8, head_dim=64), WINDOW.model_copy(update={"layers": 52}))
    layout = CacheLayout(batched_tokens=16, concurrent_steps=1)
    block = 2048 * 16
    # 10 layers share a block; 52 sliding layers make 6 such groups, the last of which is padded.
    assert sequence_bytes(mixed, 1600, layout) == block * 10 * (100 + 6 * (9 + 1))


def test_attention_pages_grow_to_a_state_and_a_sequence_keeps_two_of_them() -> None:
    hybrid = shape(FullAttention(layers=4, kv_heads=8, head_dim=128), MAMBA)
    page_tokens = 16 * -(-5316608 // (16 * 4096))
    page = page_tokens * 4096
    assert sequence_bytes(hybrid, page_tokens, CacheLayout()) == page * 4 * (1 + 7 * 2)


def test_a_longer_sequence_does_not_grow_a_state() -> None:
    only_states = shape(MAMBA, FullAttention(layers=1, kv_heads=1, head_dim=16))
    grown = sequence_bytes(only_states, 200_000, CacheLayout()) - sequence_bytes(only_states, 16, CacheLayout())
    assert grown < 2 * 5316608 * 2


def test_latents_and_indexers_add_up() -> None:
    assert sequence_bytes(shape(LATENT, INDEX), 16, CacheLayout(element_bytes=1)) == 61 * 16 * (656 + 132)


def test_compressed_latents_keep_one_vector_for_several_tokens() -> None:
    every_four = LATENT.model_copy(update={"tokens_per_entry": 4, "layers": 1})
    assert sequence_bytes(shape(every_four), 1600, CacheLayout()) == 1152 * 1600 // 4


def test_pipeline_stages_hold_whole_layers() -> None:
    whole = sequence_bytes(shape(GQA.model_copy(update={"layers": 61})), 16, CacheLayout())
    half = sequence_bytes(shape(GQA.model_copy(update={"layers": 61})), 16, CacheLayout(pipeline_parallel=2))
    assert half * 61 == whole * 31


def test_a_cache_type_that_is_not_planned_for_names_those_that_are() -> None:
    with pytest.raises(InvalidWorkspace, match=r"inference.config: kv-cache-dtype 'nvfp4' .* use auto, bfloat16"):
        kv_element_bytes("nvfp4", "bfloat16")


def test_auto_follows_the_models_type() -> None:
    assert kv_element_bytes("auto", "float32") == 4
    assert kv_element_bytes("fp8", "float32") == 1
