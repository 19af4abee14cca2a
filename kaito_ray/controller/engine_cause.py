"""What a failing replica's own words mean: the message that Ray Serve passes on. Pure.

The words are those of the hub's client, transformers, vLLM, CUDA and our own code, each as it is raised.
"""

from __future__ import annotations

from typing import Final

from kaito_ray.controller.cause import Cause, Sign, recognised

_TOKEN: Final = "put one that may read the model into modelAccessSecret"  # noqa: S105 - words, no token

_SIGNS: Final = (
    Sign(
        r"Invalid (?:user token|username or password|credentials)",
        "HubTokenInvalid",
        f"the hub does not accept the token; {_TOKEN}",
    ),
    Sign(
        r"permission to read (\S+?):|Access to model (\S+) is restricted|(\S+) is gated|GatedRepoError",
        "ModelGated",
        "the model is gated {0}{1}{2}: accept its licence, and name a token's Secret as modelAccessSecret",
    ),
    Sign(
        r"the hub knows no (\S+?), or|RepositoryNotFoundError",
        "ModelNotFound",
        "the hub knows no model {0}, or hides it: check the name, and name a token's Secret",
    ),
    Sign(
        r"weights' image cannot be pulled: (\S+): \S+ answered 40[13]",
        "WeightsImageDenied",
        "the registry refuses {0}; name a Secret in presetOptions.imagePullSecrets",
    ),
    Sign(
        r"weights' image cannot be pulled: (\S+): \S+ has no such image",
        "WeightsImageNotFound",
        "the registry has no {0}, or hides it; push the weights first",
    ),
    Sign(
        r"estimated maximum model length is (\d+)",
        "ContextTooLong",
        "the KV cache holds a context of {0} tokens at most; lower vllm.max-model-len, or take more GPU memory",
    ),
    Sign(
        r"max seq len \(?(\d+)\)? is larger than the maximum number of tokens.*?\((\d+)\)",
        "ContextTooLong",
        "a context of {0} tokens exceeds the KV cache of {1}; lower vllm.max-model-len",
    ),
    Sign(
        r"max_model_len \((\d+)\) is greater than the derived max_model_len \(.*?(\d+)",
        "ContextTooLong",
        "a context of {0} tokens exceeds the model's {1}; lower vllm.max-model-len",
    ),
    Sign(
        r"rank (\d+) is (?:greater than|above) max_lora_rank[:= ]*(\d+)?",
        "LoraRankTooHigh",
        "an adapter has rank {0}, above max_lora_rank {1}; raise vllm.max-lora-rank",
    ),
    Sign(
        r"Model architectures \[?(.*?)\]? (?:are not supported|failed to be inspected)",
        "UnsupportedArchitecture",
        "vLLM does not serve the architecture {0}; choose another model",
    ),
    Sign(
        r"has model type `(.*?)` but Transformers does not recognize",
        "UnsupportedArchitecture",
        "vLLM does not serve the architecture {0}; choose another model",
    ),
    Sign(
        r"CUDA out of memory|CUDA error: out of memory",
        "CudaOutOfMemory",
        "the GPU ran out of memory; lower vllm.max-model-len or gpu-memory-utilization, or take a bigger GPU",
    ),
    Sign(
        r"(CUDA driver version is insufficient|no kernel image is available|CUDA error: [^\n]{1,40})",
        "CudaError",
        "CUDA does not work on the node: {0}; check its driver and GPU",
    ),
    Sign(
        r"No space left on device",
        "DiskFull",
        "the node's disk is full; take machines or a NodeClass with a bigger disk",
    ),
    Sign(
        r"Task was killed due to the node running low on memory",
        "ContainerOOMKilled",
        "the replica ran out of host memory; take a machine with more of it",
    ),
)


def of_engine(text: str) -> Cause | None:
    """Return what the replica's message means; None where its own words are the best there are."""
    return recognised(text, _SIGNS)
