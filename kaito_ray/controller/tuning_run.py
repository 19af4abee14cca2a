"""A tuning Workspace: what to make next, and how far its job is. Pure.

A RayJob is made once and never written again: a run has one set of arguments. Deleting it starts the run again, from
its last checkpoint, or with nothing but the push left to do.

Where the run needs a GPU, a first job looks at the data on any node: until it has succeeded, no machine is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import Condition, PlanStatus, State, TuningStatus, WorkspaceStatus
from kaito_ray.api.tuning_args import ENTRYPOINT, last_failure, last_progress
from kaito_ray.controller.claims import claim_steps
from kaito_ray.controller.decide import Action, Create, deletion, give_back
from kaito_ray.controller.desired import annotated
from kaito_ray.controller.judgement import accepted_mark
from kaito_ray.controller.nodes import machines_condition, nodes_condition, used_nodes
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.progress import shortened
from kaito_ray.controller.served_model import model_mark
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.status import column, dated
from kaito_ray.controller.tuning_plan import PlannedTuning
from kaito_ray.kube import events
from kaito_ray.kube.cluster import (
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    NODE_POOLS,
    PERSISTENT_VOLUME_CLAIMS,
    RAY_JOBS,
    Manifest,
    Resource,
)
from kaito_ray.kube.events import Note
from kaito_ray.render.disruption import disruption_budget
from kaito_ray.render.networkpolicy import network_policy
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayjob import TuningInputs, claim, data_check, rayjob

LOOK_AGAIN_S: Final = 5.0
"""How often a running job is asked how far it is."""
_ENDED: Final = ("Complete", "Failed", "ValidationFailed")


@dataclass(frozen=True)
class Run:
    """How far a job is."""

    state: State
    started: bool
    reason: str
    """Of the condition `JobStarted`."""
    message: str


def steps(seen: Observed, inputs: TuningInputs, *, now: str) -> tuple[Action, ...]:
    """Return the objects to make; once the job has ended, its machines go back."""
    job = seen.ray_job
    if job is not None and _deployment(job) in _ENDED:
        pool = seen.node_pool
        return (*give_back(seen.node_claims), *(deletion(NODE_POOLS, pool) if pool else ()))
    good = _data_is_good(seen, inputs)
    missing = [
        Create(resource, manifest)
        for resource, manifest in objects(seen, inputs, check_only=not good)
        if (resource, manifest["metadata"]["name"]) not in seen.children
    ]
    return (*(claim_steps(seen, inputs, now=now) if good else ()), *missing)


def objects(seen: Observed, inputs: TuningInputs, *, check_only: bool = False) -> list[tuple[Resource, Manifest]]:
    """Return all that a run consists of, in the order in which it is made, or only what looks at its data."""
    marks = {**model_mark(seen.manifest, seen.model), **accepted_mark(seen.manifest)}
    found: list[tuple[Resource, Manifest]] = [(NETWORK_POLICIES, network_policy(inputs.workspace))]
    if _is_checked(inputs):
        found.append((RAY_JOBS, annotated(data_check(inputs), marks)))
    if check_only:
        return found
    if inputs.provisioner == "karpenter":
        found.append((NODE_POOLS, nodepool(inputs)))
    return [
        *found,
        (DISRUPTION_BUDGETS, disruption_budget(inputs.workspace, inputs.plan.nodes)),
        (PERSISTENT_VOLUME_CLAIMS, claim(inputs)),
        (RAY_JOBS, annotated(rayjob(inputs), marks)),
    ]


def run(job: Manifest | None, log: tuple[str, ...] | None, told: TuningStatus | None) -> Run:
    """Return how far the job is; `log` is what it printed, `told` what it last said."""
    if job is None:
        return Run("Running", False, c.JOB_PENDING_REASON, "the Ray job is being created")
    status: dict[str, Any] = job.get("status") or {}
    deployment, message = _deployment(job), str(status.get("message") or "")
    if deployment == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        where = f": {told.output}" if told and told.output else ""
        return Run("Succeeded", True, c.JOB_STARTED_REASON, f"the adapter is delivered{where}")
    if deployment in _ENDED:
        again = f"; kubectl delete rayjob {job['metadata']['name']} starts it again, where it was"
        return Run("Failed", False, c.JOB_FAILED_REASON, _failure(log, message, status) + again)
    if deployment == "Retrying":
        return Run("Running", False, c.JOB_PENDING_REASON, f"starting again: {_failure(log, message, status)}")
    if deployment == "Running":
        return Run("Running", True, c.JOB_STARTED_REASON, _doing(told))
    return Run("Running", False, c.JOB_PENDING_REASON, "waiting for Ray to start")


def tuning_status(seen: Observed, planned: PlannedTuning, settings: Settings, *, now: str) -> WorkspaceStatus:
    """Return the status of a tuning Workspace; `now` is RFC 3339."""
    old, plan = seen.workspace.status, planned.inputs.plan
    reported = last_progress(seen.job_log or ())
    told = _known(old.tuning, reported.status) if reported else old.tuning
    good = _data_is_good(seen, planned.inputs)
    found = run(seen.ray_job, seen.job_log, told) if good else _checking(seen.data_check)
    ended = found.state in ("Succeeded", "Failed")
    used = used_nodes(seen, settings.provisions)
    machines: list[Condition] = []
    if not ended and good:
        machines.append(nodes_condition(seen, plan, used))
        if settings.provisions:
            machines.insert(0, machines_condition(seen, plan.nodes, planned.inputs.instance_types))
        machines.append(_resource(machines))
    else:
        # The machines are given back, and that is no fault.
        kept = (old.condition(type_) for type_ in (c.NODE_CLAIM_READY, c.NODES_READY, c.RESOURCE_READY))
        machines = [condition for condition in kept if condition is not None]
    job = _condition(c.JOB_STARTED, found.started, found.reason, found.message)
    done = found.state == "Succeeded"
    succeeded = c.SUCCEEDED_REASON if done else c.FAILED_REASON if found.state == "Failed" else c.PENDING_REASON
    overall = [
        _condition(c.WORKSPACE_READY, done, found.state, found.message),
        _condition(c.WORKSPACE_SUCCEEDED, done, succeeded, found.message),
    ]
    return old.model_copy(
        update={
            "worker_nodes": () if ended else used,
            "target_node_count": plan.nodes,
            "state": found.state,
            "conditions": dated([*machines, job, *overall], seen, now),
            "reason": None if done else column(found.message),
            "plan": plan_status(planned),
            "tuning": told,
            "observed_generation": seen.workspace.metadata.generation,
        }
    )


def notes(old: WorkspaceStatus, new: WorkspaceStatus, done: tuple[Action, ...]) -> tuple[Note, ...]:
    """Return the Events that the step deserves."""
    found = [
        events.tuning_started(step.manifest["metadata"]["name"])
        for step in done
        if isinstance(step, Create) and step.resource == RAY_JOBS and step.manifest["spec"]["entrypoint"] == ENTRYPOINT
    ]
    if new.state != old.state and new.state in ("Succeeded", "Failed"):
        job = new.condition(c.JOB_STARTED)
        message = job.message if job else ""
        found.append(events.tuning_succeeded(message) if new.state == "Succeeded" else events.tuning_failed(message))
    return tuple(found)


def _known(before: TuningStatus | None, now: TuningStatus) -> TuningStatus:
    """Return the newest word on each figure: the last lines of a run leave out what does not change any more."""
    said = now.model_dump(exclude_none=True)
    return before.model_copy(update=said) if before and before.steps in (0, now.steps) else now


def _is_checked(inputs: TuningInputs) -> bool:
    return inputs.plan.machine.device == "cuda"


def _data_is_good(seen: Observed, inputs: TuningInputs) -> bool:
    """Return whether a machine may be asked for; what runs already is not checked again."""
    if not _is_checked(inputs) or seen.ray_job is not None:
        return True
    check = seen.data_check
    return check is not None and (check.get("status") or {}).get("jobStatus") == "SUCCEEDED"


def _checking(check: Manifest | None) -> Run:
    """Return how far the look at the data is."""
    found = run(check, None, None)
    if found.state == "Failed":
        return found
    return Run("Running", False, c.JOB_PENDING_REASON, "the data is looked at before a GPU is asked for")


def _deployment(job: Manifest) -> str:
    return str((job.get("status") or {}).get("jobDeploymentStatus") or "")


def _failure(log: tuple[str, ...] | None, message: str, status: dict[str, Any]) -> str:
    said = last_failure(log or ()) or last_failure(message.splitlines())
    if said is not None:
        return f"{said.reason}: {said.message}"
    return shortened(message) if message else str(status.get("reason") or "the job ended")


def _doing(told: TuningStatus | None) -> str:
    if told is None or not told.steps:
        return "preparing model and data"
    loss = f", loss {told.loss}" if told.loss is not None else ""
    left = f", about {told.eta_seconds} s left" if told.eta_seconds else ""
    return f"step {told.step} of {told.steps}{loss}{left}"


def _resource(machines: list[Condition]) -> Condition:
    failing = next((condition for condition in machines if condition.status != "True"), None)
    if failing is None:
        return _condition(c.RESOURCE_READY, True, c.RESOURCE_READY_REASON, "machines are ready")
    return _condition(c.RESOURCE_READY, False, failing.reason, failing.message)


def plan_status(planned: PlannedTuning) -> PlanStatus:
    """Return the plan for the status; byte figures are per worker."""
    plan, options = planned.inputs.plan, planned.inputs.options
    return PlanStatus(
        instance_type=plan.machine.instance_type,
        requested_instance_type=planned.offer.requested,
        device=plan.machine.device,
        nodes=plan.nodes,
        gpus_per_node=plan.machine.gpu_count,
        data_parallel=plan.workers,
        dtype="nf4" if options.method == "qlora" else "bfloat16",
        context_length_tokens=options.max_tokens,
        concurrent_sequences=plan.workers * options.batch_size,
        memory=plan.memory,
        why=plan.why,
    )


def _condition(type_: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="True" if holds else "False", reason=reason, message=message)
