"""Which Events a step of reconciliation deserves: the difference between two statuses, and what was done. Pure.

Statuses are stored, so a difference is seen once, also across restarts of the operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.api import names
from kaito_ray.api.status import WorkspaceStatus
from kaito_ray.controller.decide import Action, Create, Replace
from kaito_ray.controller.offers import Offer
from kaito_ray.controller.planning import Planned
from kaito_ray.kube import events
from kaito_ray.kube.cluster import RAY_SERVICES
from kaito_ray.kube.events import Note

_WAITING: Final = (c.INFERENCE_PENDING_REASON, c.INFERENCE_READY_REASON)


def of_serving(
    old: WorkspaceStatus, new: WorkspaceStatus, planned: Planned, steps: tuple[Action, ...]
) -> tuple[Note, ...]:
    """Return the Events of a Workspace that is planned."""
    return tuple(_of_serving(old, new, planned, steps))


def of_refusal(old: WorkspaceStatus, reason: str, message: str) -> tuple[Note, ...]:
    """Return the Event of a Workspace that cannot be carried out; once for each message."""
    told = (old.condition(c.INFERENCE_READY), old.condition(c.JOB_STARTED))
    if any(condition and message in condition.message for condition in told):
        return ()
    return (events.refused(reason, message),)


def of_deletion(old: WorkspaceStatus) -> tuple[Note, ...]:
    """Return the Event of a deletion that begins."""
    return () if old.condition(c.WORKSPACE_DELETING) else (events.deleting(),)


def sentence(planned: Planned) -> str:
    """Return the plan in one sentence."""
    plan = planned.plan
    machine = plan.machine
    where = f"{plan.nodes} x {machine.instance_type} ({machine.gpu})"
    split = [
        f"{word} {degree}"
        for word, degree in (
            ("tensor parallel", plan.tensor_parallel),
            ("pipeline parallel", plan.pipeline_parallel),
            ("copies", plan.data_parallel),
        )
        if degree > 1
    ]
    return ", ".join(
        [
            f"{plan.preset.name} on {where}",
            *split,
            plan.dtype,
            f"context {plan.context_length_tokens} tokens",
            f"{plan.concurrent_sequences} full contexts at once",
        ]
    )


def _of_serving(
    old: WorkspaceStatus, new: WorkspaceStatus, planned: Planned, steps: tuple[Action, ...]
) -> Iterator[Note]:
    if new.plan != old.plan:
        yield from _of_offer(planned.offer, planned.plan.machine.instance_type)
        yield events.planned(sentence(planned))
    ray_service = f"RayService {names.ray_service(planned.inputs.workspace.metadata.name)}"
    written = [step for step in steps if step.resource == RAY_SERVICES]
    # Without a plan nothing was told yet, so an operator that was killed before it could tell may have made it.
    if old.plan is None or any(isinstance(step, Create) for step in written):
        yield events.serving_started(ray_service)
    elif any(isinstance(step, Replace) for step in written):
        yield events.serving_changed(ray_service)
    yield from of_nodes(old, new)
    yield from _of_adapters(old, new)
    yield from of_inference(old, new, planned.plan.preset.name)


def of_nodes(old: WorkspaceStatus, new: WorkspaceStatus) -> Iterator[Note]:
    """Yield the Event of machines that are there."""
    before, now = old.condition(c.NODES_READY), new.condition(c.NODES_READY)
    if now and now.status == "True" and (before is None or before.status != "True"):
        yield events.nodes_ready(now.message)


def _of_offer(offer: Offer, used: str) -> Iterator[Note]:
    if offer.requested and offer.reason == "InstanceTypeRetired":
        yield events.instance_type_retired(offer.requested, used)
    elif offer.requested:
        yield events.instance_type_substituted(offer.requested, used)


def _of_adapters(old: WorkspaceStatus, new: WorkspaceStatus) -> Iterator[Note]:
    before = {status.name: status for status in old.adapters}
    for now in new.adapters:
        was = before.get(now.name)
        if now.state == "Ready" and (was is None or (was.state, was.digest) != ("Ready", now.digest)):
            yield events.adapter_ready(now.name, now.digest or "a mounted volume")
        elif now.state == "Failed" and (was is None or (was.state, was.message) != ("Failed", now.message)):
            yield events.adapter_failed(now.name, now.message)


def of_inference(old: WorkspaceStatus, new: WorkspaceStatus, model: str) -> Iterator[Note]:
    """Yield the Event of a model that answers now, that does no more, or that fails."""
    before, now = old.condition(c.INFERENCE_READY), new.condition(c.INFERENCE_READY)
    if now is None:
        return
    was_ready = before is not None and before.status == "True"
    if now.status == "True":
        if not was_ready or new.endpoint != old.endpoint:
            yield events.model_ready(model, new.endpoint or "its Service")
    elif now.reason not in _WAITING:
        if before is None or (before.reason, before.message) != (now.reason, now.message):
            yield events.failing(now.reason, now.message)
    elif was_ready:
        yield events.model_not_ready(now.message)
