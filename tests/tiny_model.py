"""A model of two layers with random weights, and LoRA adapters for it, made by transformers and peft."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kaito_ray.catalog.load import find
from kaito_ray.weights import local_directory

VOCABULARY = 256
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_EVERY_LAYER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_base(folder: Path, *, vocabulary: int = VOCABULARY) -> Path:
    """Write a float32 Llama of 2 layers; return its folder."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        # Larger than usual, so that what the layers do is seen in the answer.
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_talking_base(folder: Path) -> Path:
    """Write such a model with SmolLM2's tokenizer and chat template, so that clients can talk to it; return its folder."""
    make_base(folder, vocabulary=49152)
    smollm2 = local_directory(find("smollm2-135m-instruct").source)
    for name in _TOKENIZER:
        if (smollm2 / name).is_file():
            shutil.copy(smollm2 / name, folder)
    return folder


def make_whole(folder: Path) -> Path:
    """Write the model as a hub has it, with a tokenizer and a chat template; return its folder."""
    make_base(folder)
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    fast.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, *, seed: int, rank: int = 4, **options: Any) -> Path:
    """Write a LoRA adapter of every linear layer, with random weights that matter; return its folder."""
    torch.manual_seed(seed)
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_EVERY_LAYER, task_type="CAUSAL_LM", **options)
    model = get_peft_model(load(base), lora)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


def load(base: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@torch.inference_mode()
def next_logprobs(base: Path, prompt: list[int], *, adapter: Path | None = None, strength: float = 1.0) -> torch.Tensor:
    """Return the log-probability of each token after `prompt`, by transformers and peft alone."""
    model: Any = load(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
        for module in model.modules():
            if hasattr(module, "scale_layer"):
                module.scale_layer(strength)
    logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def make_adapters(base: Path, folder: Path, *, count: int) -> list[Path]:
    """Write that many adapters, each with another random update; return their folders."""
    first = make_adapter(base, folder / "0", seed=0)
    config, weights = first / "adapter_config.json", load_file(first / "adapter_model.safetensors")
    made = [first]
    for number in range(1, count):
        another = folder / str(number)
        another.mkdir()
        shutil.copy(config, another)
        torch.manual_seed(number)
        update = {name: 0.1 * torch.randn_like(half) if ".lora_B." in name else half for name, half in weights.items()}
        save_file(update, another / "adapter_model.safetensors")
        made.append(another)
    return made
