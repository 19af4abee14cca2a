"""Strength: the scale of the LoRA update, 0 (the base model) to 1 (as trained).

peft and vLLM both add `scaling * B A x` with `scaling = lora_alpha / r` (rank-stabilised: `/ sqrt(r)`), so a scaled
adapter is the same weights under a scaled `lora_alpha`. No tensor is copied, and at 0 vLLM's `B` becomes exactly zero.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from deployments.adapters.extract import CONFIG, WEIGHTS


def scaled(folder: Path, strength: float) -> Path:
    """Return a folder with the adapter in `folder` at that strength: `folder` itself for 1, else one inside it."""
    if strength == 1.0:
        return folder
    target = folder / f"strength-{strength!r}"
    if target.is_dir():
        return target
    config = json.loads((folder / CONFIG).read_bytes())
    config["lora_alpha"] = config["lora_alpha"] * strength
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch) / "scaled"
        fresh.mkdir(mode=0o700)
        (fresh / CONFIG).write_text(json.dumps(config))
        os.link(folder / WEIGHTS, fresh / WEIGHTS)
        with suppress(OSError):  # Another replica of this node was first; its folder is the same.
            fresh.rename(target)
    return target
