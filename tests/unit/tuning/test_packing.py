"""Packed examples do not see each other: what the recommended profile rests on, also without flash attention."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

TINY = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    attn_implementation="sdpa",
)
FIRST, SECOND = [5, 6, 7, 8, 9], [10, 11, 12]


def _logits(model: LlamaForCausalLM, *examples: list[int]) -> torch.Tensor:
    """Return the logits of the examples in one packed sequence: S tokens, V words."""
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": ids} for ids in examples])
    batch.pop("labels")
    with torch.no_grad():
        return model(**batch, use_cache=False).logits[0]


def test_an_example_in_a_pack_is_answered_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(TINY).eval()
    packed = _logits(model, FIRST, SECOND)
    torch.testing.assert_close(packed[len(FIRST) :], _logits(model, SECOND))
    torch.testing.assert_close(packed[: len(FIRST)], _logits(model, FIRST))


def test_the_comparison_would_notice_a_leak() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(TINY).eval()
    with torch.no_grad():
        leaking = model(torch.tensor([FIRST + SECOND]), use_cache=False).logits[0]
    assert not torch.allclose(leaking[len(FIRST) :], _logits(model, SECOND), atol=1e-4)
