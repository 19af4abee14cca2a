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
    """Elements of one key, and of one value."""


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
    """Multi-head latent attention (MLA): one compressed vector, the same on every tensor-parallel rank."""

    kind: Literal["latent"] = "latent"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    kv_lora_rank: PositiveInt
    """Elements of the compressed keys and values."""
    rope_dim: PositiveInt
    """Elements of the part of the key that carries the position."""
    packed_bytes: PositiveInt | None = None
    """Bytes of one vector in the engine's 8-bit layout, where sparse attention reads it: scales and 16-bit rope part
    included."""
    tokens_per_entry: PositiveInt = 1
    """Tokens that share one vector, where the model compresses along the sequence too."""
    window_tokens: PositiveInt | None = None
    """Only the last tokens are kept, where the layer is a sliding one."""


class SparseIndex(ApiModel):
    """Keys of the indexer that picks tokens for sparse attention: 8-bit, with a 4-byte scale for 128 of them."""

    kind: Literal["index"] = "index"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers that have an indexer of their own."""
    key_dim: PositiveInt
    """Elements of one indexer key."""
    tokens_per_entry: PositiveInt = 1
    """Tokens that share one key."""


class Mamba(ApiModel):
    """Mamba-2 layers: a state of fixed size for each sequence, however long it is."""

    kind: Literal["mamba"] = "mamba"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    heads: PositiveInt
    """State-space heads."""
    head_dim: PositiveInt
    """Elements of one head."""
    state_size: PositiveInt
    """Elements of the state behind one element of a head."""
    groups: PositiveInt
    """Groups of heads that share their input and output matrices."""
    conv_kernel: PositiveInt = 4
    """Width of the causal convolution."""


class DeltaNet(ApiModel):
    """Gated delta-net layers (linear attention): a state of fixed size for each sequence."""

    kind: Literal["delta"] = "delta"
    """Tells the kinds of layer groups apart."""
    layers: PositiveInt
    """Layers of this kind."""
    key_heads: PositiveInt
    """Heads of keys and queries."""
    value_heads: PositiveInt
    """Heads of values."""
    key_dim: PositiveInt = 128
    """Elements of one key."""
    value_dim: PositiveInt = 128
    """Elements of one value."""
    conv_kernel: PositiveInt = 4
    """Width of the causal convolution."""


LayerGroup = Annotated[
    FullAttention | SlidingAttention | LatentAttention | SparseIndex | Mamba | DeltaNet, Field(discriminator="kind")
]
"""Layers that cost the same memory."""


class ModelShape(ApiModel):
    """The dimensions that decide memory and how a model can be split."""

    architecture: str
    """Class name in the model's config.json (`architectures`)."""
    hidden_size: PositiveInt
    """Elements of a hidden state."""
    intermediate_size: PositiveInt | None = None
    """Elements of the feed-forward layer; of the experts that one token uses, where there are experts."""
    vocab_size: PositiveInt | None = None
    """Tokens in the vocabulary."""
    tied_embeddings: bool = False
    """Input and output embeddings are one tensor."""
    layers: PositiveInt
    """Layers in all; those that are in no group keep nothing between tokens."""
    heads: PositiveInt
    """Query heads; tensor parallelism must divide them."""
    groups: tuple[LayerGroup, ...]
    """Layers by what they keep between tokens; none in an encoder, which sees all of a text at once."""

    def divides(self, tensor_parallel: int) -> bool:
        """Return whether the model can be cut into that many equal parts.

        Query heads and state heads are divided; KV heads are divided or copied.
        """
        return self.heads % tensor_parallel == 0 and all(_divides(g, tensor_parallel) for g in self.groups)


def _divides(group: LayerGroup, parts: int) -> bool:
    match group:
        case FullAttention() | SlidingAttention():
            return group.kv_heads % parts == 0 or parts % group.kv_heads == 0
        case Mamba():
            return group.heads % parts == 0
        case DeltaNet():
            return group.key_heads % parts == 0 and group.value_heads % parts == 0
        case LatentAttention() | SparseIndex():
            return True


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
    float16: bool = True
    """Whether it may be computed in float16; some models overflow there, and the engine refuses."""
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
    tuning: bool = False
    """It can be tuned."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds this preset, lower-case."""
        hub = (self.source.hub,) if self.source.hub else ()
        return tuple(dict.fromkeys(n.lower() for n in (self.name, *self.aliases, *hub)))
