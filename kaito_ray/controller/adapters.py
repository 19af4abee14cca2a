"""`status.adapters`: each declared adapter, as the replica reports it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kaito_ray.api.status import AdapterStatus
from kaito_ray.api.workspace import AdapterSpec
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.tuned import outlives_its_run, waits_for

LOOK_AGAIN_S: Final = 5.0
"""How soon to ask again while an adapter is on its way."""


def adapter_statuses(seen: Observed) -> tuple[AdapterStatus, ...]:
    """Return one status for each declared adapter, in the manifest's order.

    An adapter that the replica does not know yet is Waiting, and says for what; where it does not answer, what it said last stands.
    """
    spec = seen.workspace.inference
    if spec is None:
        return ()
    told = seen.adapters if seen.adapters is not None else seen.workspace.status.adapters
    by_name = {status.name: status for status in told if status.state != "Waiting" or seen.adapters is not None}
    return tuple(
        _noted(_status(source.name, waits_for(adapter, seen.tuned), by_name), adapter, seen)
        for adapter in spec.adapters
        if (source := adapter.source) and source.name
    )


def _status(name: str, waits: str | None, by_name: Mapping[str, AdapterStatus]) -> AdapterStatus:
    known = by_name.get(name) if waits is None else None
    return known or AdapterStatus(name=name, state="Waiting", message=waits or "")


def _noted(status: AdapterStatus, adapter: AdapterSpec, seen: Observed) -> AdapterStatus:
    """Return the status, with a word where the Workspace that made the adapter does not exist any more."""
    if status.state != "Ready" or not outlives_its_run(adapter, seen.tuned) or adapter.source is None:
        return status
    message = f"Workspace {adapter.source.workspace} is gone; what it pushed last is served on"
    return status.model_copy(update={"message": message})


def on_their_way(statuses: tuple[AdapterStatus, ...]) -> bool:
    """Return whether any adapter is not (yet) served."""
    return any(status.state != "Ready" for status in statuses)
