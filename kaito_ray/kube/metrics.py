"""How much we ask of the API server, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

REQUESTS: Final = Counter("kaito_ray_api_requests", "Requests to the API server; watches apart.", ["verb", "kind"])
