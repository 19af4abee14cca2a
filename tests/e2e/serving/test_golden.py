"""What is served is what the weights say: greedy answers against transformers on the same weights, in float32.

The engine computes in bfloat16, as it is served, so where two tokens are all but equally likely it may take the other
one. Each token that it chose must therefore lie within `EPSILON` of the reference's largest logit, given the same text
before it.
"""

from pathlib import Path

import openai
import pytest

from tests.e2e.serving.conftest import PRESET

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("default")]

EPSILON = 0.25
TOKENS = 32
PROMPTS = [
    "What is the capital of France?",
    "The three primary colours are",
    "Water boils at",
    "def fibonacci(n):",
    "Once upon a time, in a small village,",
    "The speed of light is",
    "Ingredients for pancakes:",
    "Shakespeare was born in",
    "1, 2, 3, 4, 5,",
    "In machine learning, overfitting means",
]


@pytest.fixture(scope="module")
def reference(weights: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(weights), model.eval()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_each_greedy_token_is_the_references_choice(client: openai.OpenAI, reference, prompt: str) -> None:
    import torch

    tokenizer, model = reference
    answer = client.completions.create(
        model=PRESET,
        prompt=prompt,
        max_tokens=TOKENS,
        temperature=0,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    prompt_ids, chosen = answer.choices[0].prompt_token_ids, answer.choices[0].token_ids
    assert prompt_ids == tokenizer(prompt).input_ids
    assert len(chosen) == TOKENS
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_ids + chosen])).logits[0, len(prompt_ids) - 1 : -1]
    gaps = logits.max(dim=-1).values - logits.gather(1, torch.tensor(chosen)[:, None])[:, 0]
    assert gaps.max().item() <= EPSILON, tokenizer.decode(chosen)
