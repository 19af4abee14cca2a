"""What the operator counts of itself, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECONCILES: Final = Counter("kaito_ray_reconciles", "Looks at a Workspace, by how each ended.", ["outcome"])
"""`outcome`: done, conflict, transient, error, bug."""
PHASES: Final = Histogram(
    "kaito_ray_reconcile_phase_seconds",
    "Seconds in one phase of a look: observe, plan, act, tell.",
    ["phase"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
)
LEADING: Final = Gauge("kaito_ray_leading", "1 in the replica that reconciles, 0 in those that wait.")
READY_AFTER: Final = Histogram(
    "kaito_ray_workspace_ready_seconds",
    "Seconds from the creation of a Workspace until it was ready for the first time.",
    buckets=(10, 30, 60, 120, 300, 600, 1200, 2400, 4800, 9600),
)
