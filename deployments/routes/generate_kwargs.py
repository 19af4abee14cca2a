"""KAITO's `generate_kwargs`: the words of transformers, as vLLM's sampling options. Pure.

Every key of transformers' GenerationConfig that KAITO passed through is mapped, accepted at the one value that changes
nothing, or refused by name with what to use instead.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Count = Annotated[int, Field(ge=1)]
Floor = Annotated[int, Field(ge=0)]
Words = str | tuple[str, ...]


class RefusedRequest(ValueError):
    """A field of the request cannot be honoured; the message names it and says what to do."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")


class GenerateKwargs(BaseModel):
    """What can be said; the defaults are KAITO's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: Count = 200
    """Tokens of prompt and answer together."""
    max_new_tokens: Count | None = None
    """Tokens of the answer alone; wins over `max_length`."""
    min_length: Floor = 0
    """Tokens of prompt and answer together, before the answer may end."""
    min_new_tokens: Floor | None = None
    """Tokens of the answer alone; wins over `min_length`."""
    do_sample: bool = True
    """False takes the likeliest token each time, whatever the temperature."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 is the same as `do_sample: false`."""
    top_k: Floor = 10
    """0 is no limit."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    num_beams: Count = 1
    """More than 1 is beam search; it needs `do_sample: false`."""
    length_penalty: float = 1.0
    """For beam search."""
    eos_token_id: int | list[int] | None = None
    """Tokens that end the answer, instead of the model's own."""
    stop_strings: Words = ()
    """Strings that end the answer; `stop` is another name."""
    stop: Words = ()
    seed: int | None = None

    early_stopping: Literal[False] = False
    typical_p: Literal[1] = 1
    num_return_sequences: Literal[1] = 1
    num_beam_groups: Literal[1] = 1
    diversity_penalty: Literal[0] = 0
    no_repeat_ngram_size: Literal[0] = 0
    encoder_no_repeat_ngram_size: Literal[0] = 0
    encoder_repetition_penalty: Literal[1] = 1
    epsilon_cutoff: Literal[0] = 0
    eta_cutoff: Literal[0] = 0
    use_cache: Literal[True] = True
    remove_invalid_values: Literal[False] = False
    output_scores: Literal[False] = False
    output_logits: Literal[False] = False
    output_attentions: Literal[False] = False
    output_hidden_states: Literal[False] = False
    return_dict_in_generate: Literal[False] = False


INSTEAD: Final[dict[str, str]] = {
    "early_stopping": "vLLM's beam search has no early stop; leave it out",
    "typical_p": "use top_p or min_p",
    "num_return_sequences": "the answer holds one text; use n of /v1/completions",
    "num_beam_groups": "use num_beams",
    "diversity_penalty": "use num_beams",
    "no_repeat_ngram_size": "use repetition_penalty",
    "encoder_no_repeat_ngram_size": "use repetition_penalty",
    "encoder_repetition_penalty": "use repetition_penalty",
    "epsilon_cutoff": "use min_p",
    "eta_cutoff": "use min_p",
    "use_cache": "the KV cache is always used; leave it out",
    "remove_invalid_values": "leave it out",
    "output_scores": "use logprobs of /v1/completions",
    "output_logits": "use logprobs of /v1/completions",
    "output_attentions": "vLLM does not keep them; leave it out",
    "output_hidden_states": "vLLM does not keep them; leave it out",
    "return_dict_in_generate": 'the answer is always {"Result": text}; leave it out',
    "pad_token_id": "requests are not padded here; leave it out",
    "bos_token_id": "the tokenizer adds it; leave it out",
    "decoder_start_token_id": "for encoder-decoder models; leave it out",
    "bad_words_ids": "use bad_words of /v1/completions",
    "force_words_ids": "use structured output of /v1/completions",
    "constraints": "use structured output of /v1/completions",
    "forced_bos_token_id": "begin the prompt with that token",
    "forced_eos_token_id": "use stop_strings",
    "suppress_tokens": "use logit_bias of /v1/completions",
    "begin_suppress_tokens": "use logit_bias of /v1/completions",
    "sequence_bias": "use logit_bias of /v1/completions",
    "penalty_alpha": "vLLM has no contrastive search; use top_k and temperature",
    "top_h": "use min_p",
    "dola_layers": "vLLM has no DoLa decoding; leave it out",
    "exponential_decay_length_penalty": "use max_new_tokens",
    "guidance_scale": "vLLM has no classifier-free guidance; leave it out",
    "renormalize_logits": "leave it out",
    "low_memory": "leave it out",
    "max_time": "use max_new_tokens, and a time-out in the client",
    "watermarking_config": "vLLM does not watermark; leave it out",
    "assistant_model": "speculative decoding is the Workspace's to set, in its inference config",
    "prompt_lookup_num_tokens": "speculative decoding is the Workspace's to set, in its inference config",
    "streamer": "use stream of /v1/completions",
}
"""For each key that cannot be honoured (at another value than the one above, or at all): what to do."""

_ENGINES_OWN: Final = frozenset(
    {
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_ensemble_weight",
        "assistant_lookbehind",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "continuous_batching_config",
        "disable_compile",
        "is_assistant",
        "max_cache_len",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "prefill_chunk_size",
        "speculation_type",
        "target_lookbehind",
        "token_healing",
        "transformers_version",
        "use_mtp",
    }
)
"""Keys of GenerationConfig that say how transformers computes, not what."""

_NOT_WITH_BEAMS: Final = {
    "min_length": 0,
    "min_new_tokens": None,
    "repetition_penalty": 1.0,
    "eos_token_id": None,
    "stop_strings": (),
    "stop": (),
    "seed": None,
}


def parse(raw: dict[str, Any]) -> GenerateKwargs:
    """Return the checked options.

    Raises:
        RefusedRequest: a key is unknown, ill-typed, or means something that vLLM does not do.
    """
    for key in raw:
        if key not in GenerateKwargs.model_fields:
            raise RefusedRequest(f"generate_kwargs.{key}", INSTEAD.get(key) or _unknown(key))
    try:
        kwargs = GenerateKwargs.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise RefusedRequest(f"generate_kwargs.{key}", INSTEAD.get(key) or first["msg"].lower()) from error
    if kwargs.num_beams > 1:
        _check_beams(kwargs)
    return kwargs


def sampling(kwargs: GenerateKwargs, *, prompt_tokens: int) -> dict[str, Any]:
    """Return the options as fields of vLLM's completion and chat requests, the length of the answer apart."""
    if kwargs.num_beams > 1:
        return {"use_beam_search": True, "n": kwargs.num_beams, "length_penalty": kwargs.length_penalty}
    least = kwargs.min_new_tokens
    fields: dict[str, Any] = {
        "temperature": kwargs.temperature if kwargs.do_sample else 0.0,
        "top_k": kwargs.top_k,
        "top_p": kwargs.top_p,
        "min_p": kwargs.min_p,
        "repetition_penalty": kwargs.repetition_penalty,
        "min_tokens": max(0, kwargs.min_length - prompt_tokens) if least is None else least,
        "stop": [*_list(kwargs.stop_strings), *_list(kwargs.stop)],
        "seed": kwargs.seed,
    }
    if kwargs.eos_token_id is not None:
        fields |= {"ignore_eos": True, "stop_token_ids": _list(kwargs.eos_token_id)}
    return fields


def answer_tokens(kwargs: GenerateKwargs, *, prompt_tokens: int) -> int:
    """Return how many tokens the answer may have.

    Raises:
        RefusedRequest: `max_length` leaves no room after the prompt.
    """
    if kwargs.max_new_tokens is not None:
        return kwargs.max_new_tokens
    if prompt_tokens >= kwargs.max_length:
        raise RefusedRequest(
            "generate_kwargs.max_length",
            f"the prompt has {prompt_tokens} tokens, and {kwargs.max_length} (200 where it is not given) counts prompt "
            "and answer together; give max_new_tokens, which counts the answer alone",
        )
    return kwargs.max_length - prompt_tokens


def _check_beams(kwargs: GenerateKwargs) -> None:
    if kwargs.do_sample:
        raise RefusedRequest(
            "generate_kwargs.num_beams", "vLLM's beam search does not sample; add do_sample: false, or use one beam"
        )
    for key, neutral in _NOT_WITH_BEAMS.items():
        if getattr(kwargs, key) != neutral:
            raise RefusedRequest(f"generate_kwargs.{key}", "vLLM's beam search has no such option; use one beam")


def _unknown(key: str) -> str:
    if key in _ENGINES_OWN:
        return "vLLM computes in its own way; leave it out"
    near = get_close_matches(key, GenerateKwargs.model_fields, n=1, cutoff=0.6)
    return "there is no such option" + (f"; did you mean {near[0]}?" if near else "")


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
