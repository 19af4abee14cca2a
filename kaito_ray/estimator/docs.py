"""The tables of docs/models.md and docs/machines.md, from the same data that the planner uses.

`python -m kaito_ray.estimator.docs models` and `... machines` print them; a contract test says when they are stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from kaito_ray.catalog.gpus import Machine, machines
from kaito_ray.catalog.load import presets
from kaito_ray.catalog.models import (
    DeltaNet,
    FullAttention,
    LatentAttention,
    LayerGroup,
    Mamba,
    ModelPreset,
    SlidingAttention,
    SparseIndex,
)
from kaito_ray.estimator.kv_cache import CacheLayout, kv_element_bytes, sequence_bytes
from kaito_ray.estimator.plan import ServingOptions, cheapest
from kaito_ray.estimator.why import gib

REFERENCE_TOKENS = 8192
"""Length of the sequence whose cache the table shows."""


def models() -> str:
    """Return docs/models.md."""
    rows = [_model_row(preset) for preset in presets().values()]
    heads = (
        "Model",
        "Hub",
        "Weights",
        "Context",
        "Layers",
        f"Cache of {REFERENCE_TOKENS} tokens",
        "On Azure",
        "On AWS",
    )
    return "\n".join(
        [
            "# Models",
            "",
            "Made by `make generate` from `presets/` and the planner; do not edit. Each is served by its name or by its",
            "hub's `org/model`, in any case; aliases stand in parentheses. Layers: how many keep what; *full* is every",
            "token, *sliding n* the last n, *latent* one compressed vector (MLA), *index* keys of sparse attention, *mamba*",
            "and *delta* a state of fixed size. The cache is that of one sequence on one GPU, as vLLM allocates it. The",
            "machines are what the planner picks where a Workspace names none: the fewest, then the least GPU memory.",
            "",
            *_table(heads, rows),
            "",
        ]
    )


def machines_page() -> str:
    """Return docs/machines.md."""
    heads = ("Instance type", "Provider", "GPUs", "Memory of one", "CUDA", "Types", "CPUs", "Host", "NVMe", "Source")
    return "\n".join(
        [
            "# Machines",
            "",
            "Made by `make generate` from `kaito_ray/catalog/machines.yaml`; do not edit. GPU memory is what the driver",
            "reports, which is less than the number on the box. A retired type is accepted with a warning and served on",
            "the one that stands beside it. `unverified` rows are the provider's published sizes. A node of one's own need",
            "not be of a type that is here: NVIDIA's feature discovery or Karpenter labels it with what its GPUs are. Prices",
            "are yours: `kaito-ray plan --prices`. The MI300X is for plans only.",
            "",
            *_table(heads, [_machine_row(m) for m in machines()]),
            "",
        ]
    )


def _model_row(preset: ModelPreset) -> tuple[str, ...]:
    layout = CacheLayout(
        element_bytes=kv_element_bytes(str(preset.engine_args.get("kv_cache_dtype", "auto")), preset.dtype)
    )
    tokens = min(REFERENCE_TOKENS, preset.max_model_len)
    also = f" ({', '.join(preset.aliases)})" if preset.aliases else ""
    packed = f" {preset.quantization.method}" if preset.quantization else ""
    return (
        f"{preset.name}{also}",
        str(preset.source.hub),
        f"{gib(preset.weights_bytes)}{packed}",
        str(preset.max_model_len),
        ", ".join(map(_layers, preset.shape.groups)),
        _mib(sequence_bytes(preset.shape, tokens, layout)),
        _where(preset, "azure"),
        _where(preset, "aws"),
    )


def _layers(group: LayerGroup) -> str:
    match group:
        case SlidingAttention():
            return f"{group.layers} sliding {group.window_tokens}"
        case LatentAttention():
            window = f" sliding {group.window_tokens}" if group.window_tokens else ""
            shared = f" for {group.tokens_per_entry}" if group.tokens_per_entry > 1 else ""
            return f"{group.layers} latent{window}{shared}"
        case FullAttention() | SparseIndex() | Mamba() | DeltaNet():
            return f"{group.layers} {group.kind}"


def _where(preset: ModelPreset, provider: str) -> str:
    plan = cheapest(preset, machines(provider), ServingOptions())
    degrees = (("TP", plan.tensor_parallel), ("PP", plan.pipeline_parallel), ("DP", plan.data_parallel))
    split = "".join(f" {name} {n}" for name, n in degrees if n > 1)
    return f"{plan.nodes} x {plan.machine.instance_type}{split}"


def _machine_row(machine: Machine) -> tuple[str, ...]:
    retired = f" (retired: {machine.substitute})" if machine.retired else ""
    return (
        f"{machine.instance_type}{retired}",
        machine.provider,
        machine.gpu,
        gib(machine.gpu_memory_bytes) if machine.gpu_count else "",
        str(machine.compute_capability or ""),
        machine.dtypes[0],
        f"{machine.cpus:g}" if machine.cpus else "",
        gib(machine.memory_bytes) if machine.memory_bytes else "",
        "yes" if machine.nvme else "",
        machine.source,
    )


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows)]


if __name__ == "__main__":
    sys.stdout.write({"models": models, "machines": machines_page}[sys.argv[1]]())
