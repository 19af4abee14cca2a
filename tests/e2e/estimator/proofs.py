"""The table of docs/planning.md: architecture by architecture, what is held against vLLM's own figures, and what is not.

`python -m tests.e2e.estimator.proofs` prints it; a test says when the page is behind.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import yaml

from kaito_ray.catalog.load import find
from kaito_ray.catalog.models import ModelPreset
from tests.e2e.estimator.families import NOT_BUILT, TEXT_MODELS, buildable, why_weights_are_not_compared

CONFIGS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "unit" / "catalog" / "configs.yaml").read_text(encoding="utf-8")
)
SPARSE = ("DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM")
"""Held against specs that the engine's own classes make of their layers, for the layers themselves cannot be built."""


def table() -> str:
    """Return the table."""
    families: dict[str, list[str]] = defaultdict(list)
    for name, config in CONFIGS.items():
        families[config["architectures"][0]].append(name)
    heads = ("Architecture", "Presets", "Keeps", "Cache held against", "Weights held against")
    rows = [_row(architecture, names) for architecture, names in sorted(families.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ("---",) * len(heads), *rows)) + "\n"


def _row(architecture: str, names: list[str]) -> tuple[str, ...]:
    presets = [find(name) for name in names]
    kinds = sorted({group.kind for preset in presets for group in preset.shape.groups})
    return architecture, str(len(names)), ", ".join(kinds), _cache(architecture, names), _weights(presets)


def _cache(architecture: str, names: list[str]) -> str:
    if architecture in SPARSE:
        return f"vLLM's specs of its layers ({NOT_BUILT[architecture]})"
    if architecture in NOT_BUILT:
        return f"nothing: a lower bound, see below ({NOT_BUILT[architecture]})"
    built = {config["architectures"][0] for name in names if (config := buildable(CONFIGS[name]))}
    as_text = "" if built == {architecture} or architecture not in TEXT_MODELS else f" as {', '.join(sorted(built))}"
    return f"the model{as_text}, exactly"


def _weights(presets: list[ModelPreset]) -> str:
    whys = Counter(why_weights_are_not_compared(preset, CONFIGS[preset.name]) for preset in presets)
    if any(CONFIGS[preset.name]["architectures"][0] in NOT_BUILT for preset in presets):
        return "the hub's size: the model is not built here"
    compared = whys.pop(None, 0)
    said = [f"{compared} within 0.2%"] if compared else []
    return "; ".join([*said, *(f"{count} not: {why}" for why, count in whys.items())])


if __name__ == "__main__":
    sys.stdout.write(table())
