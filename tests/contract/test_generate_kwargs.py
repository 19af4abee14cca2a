"""Every option of transformers' generation is mapped, or refused by name with what to use instead."""

import pytest
from transformers import GenerationConfig

from deployments.routes.generate_kwargs import GenerateKwargs, RefusedRequest, parse

KEYS = sorted(key for key in GenerationConfig().to_dict() if not key.startswith("_"))


def test_what_is_mapped_are_transformers_words_and_two_of_vllms() -> None:
    assert GenerateKwargs.model_fields.keys() - set(KEYS) == {"seed", "stop"}


@pytest.mark.parametrize("key", [key for key in KEYS if key not in GenerateKwargs.model_fields])
def test_what_is_not_mapped_is_refused_by_name(key: str) -> None:
    with pytest.raises(RefusedRequest) as refused:
        parse({key: 1})
    assert "there is no such option" not in str(refused.value)
