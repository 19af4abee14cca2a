"""A person's own prices: a YAML file of instance types and what an hour costs, in whatever currency."""

from __future__ import annotations

from pathlib import Path

import yaml

from kaito_ray.errors import UserError


def read_prices(path: Path) -> dict[str, float]:
    """Return the prices in a file by instance type.

    Raises:
        UserError: it cannot be read, or something in it is no price.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--prices: {path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(price, int | float) for price in found.values()):
        raise UserError(f"--prices: {path} must map instance types to numbers, for example `g6.xlarge: 0.80`")
    return {str(name): float(price) for name, price in found.items()}
