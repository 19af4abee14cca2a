"""Observe, plan, render, decide, act, tell: one pass over one Workspace. Level-triggered and idempotent.

A pass that finds nothing to change writes nothing.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from kaito_ray.api import conditions as c
from kaito_ray.api.status import WorkspaceStatus
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller import announce, template_run, tuning_run
from kaito_ray.controller.act import act
from kaito_ray.controller.adapters import LOOK_AGAIN_S, on_their_way
from kaito_ray.controller.claims import claim_steps, pause_s
from kaito_ray.controller.deadline import seconds_between, watchful_s
from kaito_ray.controller.decide import Action, decide, dismantle, hold
from kaito_ray.controller.desired import desired, pinned_image, require_ours
from kaito_ray.controller.jobs import Jobs
from kaito_ray.controller.judgement import NotAdmitted, faults, require_admissible
from kaito_ray.controller.metrics import PHASES, READY_AFTER
from kaito_ray.controller.models import Models, ModelUnavailable
from kaito_ray.controller.node_claims import NodeClaims
from kaito_ray.controller.observe import Observed, accepted_key, observe
from kaito_ray.controller.planning import plan
from kaito_ray.controller.queue import Key
from kaito_ray.controller.replicas import Replicas
from kaito_ray.controller.rollout import deadline_s, rollout
from kaito_ray.controller.scaling import look_again_s
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.startup import answered
from kaito_ray.controller.status import deleting_status, endpoint, refused_status, serving_status
from kaito_ray.controller.template_plan import plan_template
from kaito_ray.controller.tuning_plan import plan_run
from kaito_ray.errors import ApiRefused, InvalidWorkspace, UserError
from kaito_ray.kube.cluster import WORKSPACES, Cluster, Manifest
from kaito_ray.kube.events import Note, emit, timestamp

log = logging.getLogger(__name__)

RESYNC_S: Final = 600.0
"""How often a Workspace is looked at without a reason, should a watch have missed one."""
REFUSED_BY_API_S: Final = 30.0
"""How soon a write is tried again that the API server refused: quotas grow, CRDs get installed."""
DELETING_S: Final = 5.0
"""How often a deletion is looked at."""


async def reconcile(
    cluster: Cluster,
    replicas: Replicas,
    key: Key,
    settings: Settings,
    *,
    jobs: Jobs | None = None,
    models: Models | None = None,
    claims: NodeClaims | None = None,
    now: str | None = None,
) -> float | None:
    """Bring one Workspace closer to what it says; return after how many seconds to look again, if at all.

    Raises:
        errors.TransientError: try again with back-off.
    """
    manifest = await cluster.get(WORKSPACES, key.name, key.namespace)
    if manifest is None:
        return None
    now = now or timestamp()
    unreadable: list[InvalidWorkspace] = []
    try:
        workspace = Workspace.from_wire(manifest)
    except ValidationError:
        # Stored under rules that are not ours. It is refused, and can be deleted like any other.
        unreadable, workspace = faults(manifest, None, settings), _bare(manifest)
    with PHASES.labels("observe").time():
        seen = await observe(cluster, replicas, manifest, workspace, settings, jobs=jobs, models=models, claims=claims)
    if seen.deleting:
        return await _delete(cluster, seen, now)
    # Before the first child: nothing may be left behind by a deletion that nobody held up.
    manifest = await act(cluster, hold(seen), manifest)
    try:
        if unreadable:
            raise NotAdmitted(unreadable)
        require_ours(seen)
        require_admissible(seen, settings)
        if workspace.tuning is not None:
            return await _tune(cluster, seen, manifest, settings, now)
        if workspace.inference is not None and workspace.inference.template is not None:
            return await _run_template(cluster, seen, manifest, settings, now)
        with PHASES.labels("plan").time():
            planned = plan(seen, settings, pinned_image=pinned_image(seen))
            machines = claim_steps(seen, planned.inputs, now=now)
            steps = (*machines, *decide(seen, desired(planned.inputs, seen)))
        with PHASES.labels("act").time():
            await act(cluster, steps, manifest)
    except ModelUnavailable as error:
        # While it is on its way nothing is refused, and what is served already stays as it is.
        if not (error.pending and seen.ray_service):
            await _refuse(cluster, seen, manifest, error, now, pending=error.pending)
        return error.again_s
    except UserError as error:
        await _refuse(cluster, seen, manifest, error, now)
        return REFUSED_BY_API_S if isinstance(error, ApiRefused) else RESYNC_S
    judged = rollout(seen, planned.plan, settings, now=now)
    if judged.serving.reason == c.INFERENCE_READY_REASON and not answered(workspace.status):
        told = await replicas.started(endpoint(seen, settings), accepted_key(workspace, seen.children))
        seen = replace(seen, replica_start=told)
    status = serving_status(seen, planned, settings, judged, now=now)
    with PHASES.labels("tell").time():
        await _tell(cluster, manifest, status, announce.of_serving(workspace.status, status, planned, steps), now)
    if status.state == "Ready" and workspace.status.state == "Pending":
        READY_AFTER.observe(seconds_between(workspace.metadata.creation_timestamp, now))
    again_s = LOOK_AGAIN_S if status.endpoint and on_their_way(status.adapters) else RESYNC_S
    pause = pause_s(seen, len(planned.inputs.instance_types), now) or again_s
    counted_s = look_again_s(workspace, seen.replicas)
    return min(again_s, counted_s, pause, deadline_s(status, seen, planned.plan, settings, now=now))


async def _refuse(
    cluster: Cluster, seen: Observed, manifest: Manifest, error: UserError, now: str, *, pending: bool = False
) -> None:
    notes = () if pending else announce.of_refusal(seen.workspace.status, error.reason, str(error))
    await _tell(cluster, manifest, refused_status(seen, error, now=now, pending=pending), notes, now)


async def _tune(cluster: Cluster, seen: Observed, manifest: Manifest, settings: Settings, now: str) -> float:
    planned = plan_run(seen, settings)
    done = tuning_run.steps(seen, planned.inputs, now=now)
    await act(cluster, done, manifest)
    status = tuning_run.tuning_status(seen, planned, settings, now=now)
    await _tell(cluster, manifest, status, tuning_run.notes(seen.workspace.status, status, done), now)
    again_s = tuning_run.LOOK_AGAIN_S if status.state == "Running" else RESYNC_S
    return min(again_s, pause_s(seen, len(planned.inputs.instance_types), now) or again_s)


async def _run_template(cluster: Cluster, seen: Observed, manifest: Manifest, settings: Settings, now: str) -> float:
    inputs = plan_template(seen, settings)
    steps = (*claim_steps(seen, inputs, now=now), *decide(seen, template_run.desired_template(inputs, seen)))
    await act(cluster, steps, manifest)
    status = template_run.template_status(seen, inputs, settings, now=now)
    await _tell(cluster, manifest, status, template_run.notes(seen.workspace.status, status, steps), now)
    pause = pause_s(seen, len(inputs.instance_types), now) or RESYNC_S
    return min(watchful_s(status, now) or RESYNC_S, pause, RESYNC_S)


async def _delete(cluster: Cluster, seen: Observed, now: str) -> float:
    steps: tuple[Action, ...] = dismantle(seen)
    finished = any(step.resource == WORKSPACES for step in steps)
    if not finished:
        old = seen.workspace.status
        await _tell(cluster, seen.manifest, deleting_status(seen, now=now), announce.of_deletion(old), now)
    await act(cluster, steps, seen.manifest)
    return DELETING_S


def _bare(manifest: Manifest) -> Workspace:
    """Return as much of a Workspace as can be read in any case: its metadata."""
    meta = manifest["metadata"]
    kept = ("name", "namespace", "uid", "generation", "finalizers", "deletionTimestamp", "resourceVersion")
    read = {key: meta[key] for key in kept if key in meta}
    return Workspace.from_wire({"metadata": read, "resource": {"labelSelector": {}}})


async def _tell(
    cluster: Cluster, manifest: Manifest, status: WorkspaceStatus, notes: tuple[Note, ...], now: str
) -> None:
    """Emit the Events, then store the status if it differs: an Event told twice is counted, one forgotten is lost."""
    for note in notes:
        await emit(cluster, manifest, note, now=now)
    wire: dict[str, Any] = status.to_wire()
    if wire != (manifest.get("status") or {}):
        await cluster.replace_status(WORKSPACES, {**manifest, "status": wire})
