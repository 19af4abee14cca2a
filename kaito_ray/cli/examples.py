"""Where the example manifests are: `kaito_ray/data/examples` in a wheel, `examples/` beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

import kaito_ray
from kaito_ray.errors import KaitoRayError


def example(name: str) -> Path:
    """Return the path of an example, for example `inference/workspace_smollm2.yaml`.

    Raises:
        KaitoRayError: the installation lacks it.
    """
    package = Path(kaito_ray.__file__).parent
    for directory in (package / "data" / "examples", package.parent / "examples"):
        if (path := directory / name).is_file():
            return path
    raise KaitoRayError(f"this installation lacks the example {name}: install kaito-ray again")
