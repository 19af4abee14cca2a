"""KAITO's 132 node counts at 2048 tokens, as a regression table: where ours differ, the reason stands beside it."""

import pytest

from kaito_ray.catalog.gpus import machine
from kaito_ray.catalog.load import find
from kaito_ray.estimator.plan import ServingOptions, plan_serving

MACHINES = (
    "Standard_NV36ads_A10_v5",
    "Standard_NV72ads_A10_v5",
    "Standard_NC24ads_A100_v4",
    "Standard_NC48ads_A100_v4",
    "Standard_NC96ads_A100_v4",
    "Standard_ND96asr_A100_v4",
    "Standard_NC40ads_H100_v5",
    "Standard_ND96isr_H100_v5",
    "Standard_ND96isr_H200_v5",
    "g6.xlarge",
    "g5.12xlarge",
)
KAITO = {
    "phi-4-mini-instruct": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "phi-4": (2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1),
    "qwen2.5-coder-7b-instruct": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "qwen2.5-coder-32b-instruct": (4, 2, 2, 1, 1, 1, 1, 1, 1, 4, 1),
    "llama-3.1-8b-instruct": (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    "llama-3.3-70b-instruct": (9, 5, 3, 2, 1, 1, 2, 1, 1, 9, 2),
    "gpt-oss-20b": (2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1),
    "gpt-oss-120b": (8, 4, 3, 2, 1, 1, 2, 1, 1, 8, 2),
    "gemma-3-27b-it": (4, 2, 1, 1, 1, 1, 1, 1, 1, 4, 1),
    "minimax-m2.7": (14, 7, 4, 2, 1, 1, 4, 1, 1, 14, 4),
    "deepseek-r1-0528": (39, 20, 11, 6, 3, 3, 9, 2, 1, 39, 10),
    "kimi-k2.5": (34, 17, 10, 5, 3, 3, 8, 2, 1, 34, 9),
}
SHARE = "the engine may use 0.90 of what the driver reports; KAITO plans with 0.84"
LAYERS = "a stage holds whole layers: one machine fewer would give some GPU a layer more than fits"
OURS = {
    ("qwen2.5-coder-32b-instruct", "Standard_NC24ads_A100_v4"): (1, SHARE),
    ("llama-3.3-70b-instruct", "Standard_NC24ads_A100_v4"): (2, SHARE),
    ("gpt-oss-120b", "Standard_NC24ads_A100_v4"): (2, SHARE),
    ("gpt-oss-120b", "Standard_NC48ads_A100_v4"): (1, SHARE),
    ("minimax-m2.7", "Standard_NC40ads_H100_v5"): (3, SHARE),
    ("kimi-k2.5", "Standard_NC24ads_A100_v4"): (9, SHARE),
    ("minimax-m2.7", "Standard_NV36ads_A10_v5"): (16, LAYERS),
    ("minimax-m2.7", "g6.xlarge"): (16, LAYERS),
    ("deepseek-r1-0528", "Standard_NV36ads_A10_v5"): (61, LAYERS),
    ("deepseek-r1-0528", "Standard_NV72ads_A10_v5"): (21, LAYERS),
    ("deepseek-r1-0528", "g6.xlarge"): (61, LAYERS),
    ("deepseek-r1-0528", "g5.12xlarge"): (11, LAYERS),
    ("kimi-k2.5", "Standard_NV36ads_A10_v5"): (61, LAYERS),
    ("kimi-k2.5", "Standard_NV72ads_A10_v5"): (21, LAYERS),
    ("kimi-k2.5", "g6.xlarge"): (61, LAYERS),
}
VECTORS = [(model, name, nodes) for model, row in KAITO.items() for name, nodes in zip(MACHINES, row, strict=True)]


@pytest.mark.parametrize(("model", "instance_type", "kaito"), VECTORS)
def test_nodes_are_kaito_s_or_differ_for_a_reason(model: str, instance_type: str, kaito: int) -> None:
    expected, reason = OURS.get((model, instance_type), (kaito, "as KAITO"))
    offered = machine(instance_type)
    assert offered is not None
    plan = plan_serving(find(model), offered, ServingOptions(context_length_tokens=2048))
    assert plan.nodes == expected, reason


def test_the_table_has_132_vectors_and_every_difference_is_one() -> None:
    assert len(VECTORS) == 132
    assert len(VECTORS) - len(OURS) == 117
    assert all(KAITO[model][MACHINES.index(name)] != ours for (model, name), (ours, _) in OURS.items())


@pytest.mark.parametrize(("model", "instance_type"), [key for key, (_, why) in OURS.items() if why == LAYERS])
def test_a_machine_fewer_leaves_some_stage_a_layer_more_than_the_even_share(model: str, instance_type: str) -> None:
    layers = find(model).shape.layers
    kaito = KAITO[model][MACHINES.index(instance_type)]
    offered = machine(instance_type)
    assert offered is not None
    stages = plan_serving(find(model), offered, ServingOptions(context_length_tokens=2048)).pipeline_parallel
    ours = OURS[model, instance_type][0]
    assert -(-layers // (stages * kaito // ours)) > -(-layers // stages)
