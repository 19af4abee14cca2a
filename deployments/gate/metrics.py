"""The gate's counters at `/metrics`, beside vLLM's: read when Prometheus asks, so that a request pays nothing for them."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployments.gate.gate import Gate


class GateMetrics(Collector):
    """Requests and tokens by the name of the key that they came with; without keys, the name is empty."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        requests = CounterMetricFamily("kaito_ray_requests", "Requests admitted.", labels=["key"])
        refused = CounterMetricFamily("kaito_ray_refused", "Requests answered with 429.", labels=["key", "limit"])
        tokens = CounterMetricFamily("kaito_ray_tokens", "Tokens of answered requests.", labels=["key", "kind"])
        for account in self._gate.accounts():
            requests.add_metric([account.name], account.requests)
            tokens.add_metric([account.name, "prompt"], account.prompt_tokens)
            tokens.add_metric([account.name, "completion"], account.completion_tokens)
            for limit, count in account.refused.items():
                refused.add_metric([account.name, limit], count)
        yield requests
        yield refused
        yield tokens
        yield CounterMetricFamily(
            "kaito_ray_unauthorized", "Requests answered with 401.", value=self._gate.unknown_keys
        )
        yield GaugeMetricFamily("kaito_ray_requests_in_flight", "Requests being answered.", value=self._gate.in_flight)
        yield GaugeMetricFamily(
            "kaito_ray_max_queued", "Requests that may wait in this replica.", value=self._gate.max_queued
        )
