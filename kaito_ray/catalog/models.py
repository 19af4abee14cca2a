"""What a preset says about a model: where its weights are, how big they are, and what its layers keep per token.

The estimator computes with `ModelShape` alone; everything else in `ModelPreset` is for the engine and for people.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from kaito_ray.api.app_args import ModelSource
from kaito_ray.api.base import ApiModel

Dtype = Literal["bfloat16", "float16", "float32"]
"""Type of activations, and of weights that are not quantised."""


class FullAttention(ApiModel):
    """Layers that keep keys and values of every token: MHA, GQA, MQA."""

    kind: Literal["full"] = "full"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    kv_heads: PositiveInt
    """Heads of keys and values, before any split over GPUs."""
    head_dim: PositiveInt
    """Elements of one key."""
    value_dim: PositiveInt | None = None
    """Elements of one value; absent means `headDim`."""
    shared_key_value: bool = False
    """Keys and values are the same tensor in the model; the engine still stores both."""


class SlidingAttention(ApiModel):
    """Layers that keep keys and values of the last tokens only."""

    kind: Literal["sliding"] = "sliding"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    kv_heads: PositiveInt
    """Heads of keys and values, before any split over GPUs."""
    head_dim: PositiveInt
    """Elements of one key, and of one value."""
    window_tokens: PositiveInt
    """Tokens that a query sees, itself included."""


class LatentAttention(ApiModel):
    """Multi-head latent attention (MLA): one compressed vector a token, the same on every tensor-parallel rank."""

    kind: Literal["latent"] = "latent"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    kv_lora_rank: PositiveInt
    """Elements of the compressed keys and values."""
    rope_dim: PositiveInt
    """Elements of the part of the key that carries the position."""


LayerGroup = Annotated[FullAttention | SlidingAttention | LatentAttention, Field(discriminator="kind")]
"""Layers that cost the same memory."""


class ModelShape(ApiModel):
    """The dimensions that decide memory and how a model can be split."""

    architecture: str
    """Class name in the model's config.json (`architectures`)."""
    hidden_size: PositiveInt
    """Elements of a hidden state."""
    layers: PositiveInt
    """Layers in all; those that are in no group keep nothing between tokens."""
    heads: PositiveInt
    """Query heads; tensor parallelism must divide them."""
    groups: tuple[LayerGroup, ...]
    """Layers by what they keep between tokens."""

    @property
    def kv_heads(self) -> int:
        """Most heads of keys and values in any layer; 1 where attention is latent everywhere."""
        return max((g.kv_heads for g in self.groups if not isinstance(g, LatentAttention)), default=1)


class Quantization(ApiModel):
    """How the weights are packed."""

    method: str
    """vLLM's word: fp8, awq, gptq, mxfp4, compressed-tensors, ..."""
    bits: PositiveInt | None = None
    """Bits of a packed weight, where the model's config says so."""


class ModelPreset(ApiModel):
    """One model that can be named in a Workspace."""

    name: str
    """Name in manifests, and the `model` that clients ask for."""
    aliases: tuple[str, ...] = ()
    """Other names that are accepted; the hub's `org/model` is always one."""
    source: ModelSource
    """Where the weights come from."""
    license: str
    """SPDX or hub identifier."""
    gated: bool = False
    """The hub asks for a token of somebody who accepted the licence."""
    shape: ModelShape
    """Dimensions."""
    weights_bytes: PositiveInt
    """Sum of the weight files on the hub, or of the checkpoint that the engine loads."""
    max_model_len: PositiveInt
    """Longest prompt plus completion, in tokens."""
    dtype: Dtype = "bfloat16"
    """Type of activations, and of weights that are not quantised."""
    quantization: Quantization | None = None
    """How the weights are packed; absent means not at all."""
    tool_call_parser: str | None = None
    """vLLM tool-call parser; turns automatic tool choice on."""
    reasoning_parser: str | None = None
    """vLLM reasoning parser."""
    chat_template: str | None = None
    """Jinja chat template, inline; absent means the tokenizer's own."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """vLLM engine arguments that this model needs, by their Python names."""
    lora: bool = True
    """Adapters can be served beside it."""
    tuning: bool = False
    """It can be tuned."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds this preset, lower-case."""
        hub = (self.source.hub,) if self.source.hub else ()
        return tuple(dict.fromkeys(n.lower() for n in (self.name, *self.aliases, *hub)))
