"""peft grows variants of LoRA; each that vLLM would serve as if it were plain LoRA must be refused."""

from __future__ import annotations

from dataclasses import fields

from peft import LoraConfig

from deployments.adapters.check import UNSUPPORTED


def test_every_variant_that_peft_declares_is_refused() -> None:
    variants = {field.name for field in fields(LoraConfig) if field.metadata.get("is_lora_variant")}
    assert "use_dora" in variants
    assert variants <= set(UNSUPPORTED)


def test_every_refused_field_is_one_of_pefts() -> None:
    assert set(UNSUPPORTED) <= {field.name for field in fields(LoraConfig)}
