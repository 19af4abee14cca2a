"""Observed -> `status`: conditions, state, endpoint, plan and the WHY column. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.api.status import AdapterStatus, Condition, State, WorkspaceStatus
from kaito_ray.controller.adapters import adapter_statuses
from kaito_ray.controller.diagnosis import cause_of_refusal
from kaito_ray.controller.nodes import machines_condition, nodes_condition, used_nodes
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.planning import Planned
from kaito_ray.controller.progress import Progress, progress
from kaito_ray.controller.rollout import UPGRADING, Rollout
from kaito_ray.controller.scaling import missing, needed_machines, target_machines
from kaito_ray.controller.settings import Settings
from kaito_ray.controller.startup import startup
from kaito_ray.controller.template_progress import serving_of
from kaito_ray.errors import UserError


def serving_status(
    seen: Observed, planned: Planned, settings: Settings, judged: Rollout, *, now: str
) -> WorkspaceStatus:
    """Return the status of a Workspace that is planned; `now` is RFC 3339."""
    provisioned = settings.provisions
    used = used_nodes(seen, provisioned)
    adapters = adapter_statuses(seen)
    needed = needed_machines(planned.plan, seen.workspace)
    nodes = [nodes_condition(seen, planned.plan, used, needed=needed)]
    if provisioned:
        nodes.insert(0, machines_condition(seen, needed, planned.inputs.instance_types))
    upgrade = judged.upgrade and replace(judged.upgrade, message=_second(judged.upgrade.message))
    found = status_of(
        seen,
        settings,
        nodes=nodes,
        serving=judged.serving,
        upgrade=upgrade,
        used=used,
        needed=target_machines(planned.plan, seen.workspace, seen.replicas),
        now=now,
    )
    return found.model_copy(
        update={
            "reason": _beside(judged, adapters, _missing(seen, planned, settings))
            if found.state == "Ready"
            else found.reason,
            "plan": planned.plan.to_status(),
            "replicas": seen.replicas,
            "adapters": adapters,
            "startup": startup(seen, found.conditions, now=now),
        }
    )


def status_of(
    seen: Observed,
    settings: Settings,
    *,
    nodes: Sequence[Condition],
    serving: Progress,
    upgrade: Progress | None,
    used: tuple[str, ...],
    needed: int,
    now: str,
) -> WorkspaceStatus:
    """Return the part of the status that a model of ours and a pod of the person's own have in common.

    `nodes` are the conditions of the machines, `used` their names and `needed` how many there should be; `upgrade` is
    what is rolled out beside what serves.
    """
    old = seen.workspace.status
    resource = _resource_condition(nodes)
    inference = _inference_condition(seen, settings, serving)
    ready = inference.status == "True" and resource.status == "True"
    found = [*nodes, resource, inference, *_overall(ready, _why([*nodes, inference]))]
    if upgrade is not None:
        found.append(_condition(c.UPGRADE_IN_PROGRESS, True, upgrade.reason, upgrade.message))
    return old.model_copy(
        update={
            "worker_nodes": used,
            "target_node_count": needed,
            "state": _state(ready, old),
            "conditions": dated(found, seen, now),
            "reason": None if ready else column(_why([*nodes, inference])),
            "endpoint": endpoint(seen, settings) if inference.status == "True" else old.endpoint,
            "observed_generation": seen.workspace.metadata.generation,
        }
    )


def refused_status(seen: Observed, error: UserError, *, now: str, pending: bool = False) -> WorkspaceStatus:
    """Return the status of a Workspace that cannot be carried out as it is, or not yet (`pending`).

    If it was served before, it still is, as it was, and a tuning job goes on: then only the last edit is refused, and
    the conditions say both.
    """
    old = seen.workspace.status
    message = str(error)
    job = old.condition(c.JOB_STARTED)
    if seen.ray_job is not None and job is not None:
        note = f"as before the last edit, which is refused: {message}"
        found = [job.model_copy(update={"message": note}) if known is job else known for known in old.conditions]
        return old.model_copy(
            update={
                "conditions": dated(found, seen, now),
                "reason": column(message),
                "observed_generation": seen.workspace.metadata.generation,
            }
        )
    serving = _served_before(seen, was_ready=_was_ready(old))
    if serving is not None and serving.ready:
        note = f"{serving.message}, as before the last edit, which is refused: {message}"
        found = [*_kept(old, c.RESOURCE_READY), _condition(c.INFERENCE_READY, True, serving.reason, note)]
        ready = True
    else:
        work = c.JOB_STARTED if seen.workspace.tuning else c.INFERENCE_READY
        found = [
            _condition(c.RESOURCE_READY, False, error.reason, message),
            _condition(work, False, error.reason, message),
        ]
        ready = False
    return old.model_copy(
        update={
            "state": _state(ready, old),
            "conditions": dated([*found, *_overall(ready, message, error.reason, failed=not pending)], seen, now),
            "reason": column(message),
            "observed_generation": seen.workspace.metadata.generation,
        }
    )


def deleting_status(seen: Observed, *, now: str) -> WorkspaceStatus:
    """Return the status of a Workspace that is being deleted."""
    if seen.ray_service is not None or seen.ray_job is not None:
        message = "deleting: waiting for KubeRay to stop Ray"
    elif seen.pods:
        message = "deleting: waiting for the pods to end"
    else:
        message = "deleting: waiting for Karpenter to return the machines"
    old = seen.workspace.status
    kept = [condition for condition in old.conditions if condition.type not in (*_OF_SERVING, c.WORKSPACE_DELETING)]
    gone = [
        _condition(condition.type, False, c.DELETING_REASON, message)
        for condition in old.conditions
        if condition.type in _OF_SERVING
    ]
    found = [*kept, *gone, _condition(c.WORKSPACE_DELETING, True, c.DELETING_REASON, message)]
    update = {"conditions": dated(found, seen, now), "reason": message, "state": _state(False, old), "endpoint": None}
    return old.model_copy(update=update)


_OF_SERVING: Final = (c.INFERENCE_READY, c.WORKSPACE_READY, c.WORKSPACE_SUCCEEDED)
"""Conditions that end as soon as a deletion begins."""


_WAITING: Final = (c.NODE_CLAIM_NOT_READY_REASON, c.NODE_NOT_READY_REASON, c.INFERENCE_PENDING_REASON)
"""Reasons that tell of a step that takes its time, not of a fault."""


def endpoint(seen: Observed, settings: Settings) -> str | None:
    """Return the base URL of the Workspace; None where its Service has no address yet."""
    service = seen.service
    if service is None:
        return None
    for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        ports = ingress.get("ports") or [{"port": 80}]
        host = ingress.get("ip") or ingress.get("hostname")
        port = ports[0]["port"]
        return f"http://{host}" if port == 80 else f"http://{host}:{port}"
    if settings.provider == "local" or service["spec"].get("type") == "LoadBalancer":
        return None
    meta = seen.workspace.metadata
    return f"http://{meta.name}.{meta.namespace}.svc"


def _missing(seen: Observed, planned: Planned, settings: Settings) -> str | None:
    """Return what to say of replicas that load asks for and that do not answer yet, with what keeps their machines."""
    words = missing(seen.replicas, seen.workspace)
    if words is not None and (cause := cause_of_refusal(seen)):
        return f"{words}: {cause.message}"
    if words is None or not settings.provisions:
        return words
    wanted = target_machines(planned.plan, seen.workspace, seen.replicas)
    coming = machines_condition(seen, wanted, planned.inputs.instance_types)
    return words if coming.status == "True" else f"{words}: {coming.message}"


def _beside(judged: Rollout, adapters: Sequence[AdapterStatus], missing_replicas: str | None) -> str | None:
    """Return what is wrong though the model answers: a stuck upgrade, an adapter that is not served, few replicas."""
    if judged.upgrade is not None and judged.upgrade.reason != UPGRADING:
        return column(f"serving, but the upgrade fails: {judged.upgrade.message}")
    failed = next((adapter for adapter in adapters if adapter.state == "Failed"), None)
    if failed is not None:
        return column(f"serving, but not adapter {failed.name}: {failed.message}")
    return column(missing_replicas) if missing_replicas else None


def _second(message: str) -> str:
    return f"a second Ray cluster is started beside the serving one, and takes over when it is ready: {message}"


def _inference_condition(seen: Observed, settings: Settings, found: Progress) -> Condition:
    if found.ready and endpoint(seen, settings) is None:
        found = Progress(False, c.INFERENCE_PENDING_REASON, "the model is loaded; waiting for an address")
    return _condition(c.INFERENCE_READY, found.ready, found.reason, found.message)


def _resource_condition(nodes: Sequence[Condition]) -> Condition:
    failing = next((condition for condition in nodes if condition.status != "True"), None)
    if failing is None:
        return _condition(c.RESOURCE_READY, True, c.RESOURCE_READY_REASON, "machines are ready")
    return _condition(c.RESOURCE_READY, False, failing.reason, failing.message)


def _overall(ready: bool, why: str, reason: str | None = None, *, failed: bool = True) -> list[Condition]:
    """Return `WorkspaceReady` and KAITO's `WorkspaceSucceeded`, which say the same of a serving Workspace."""
    if ready:
        succeeded, word, message = c.SUCCEEDED_REASON, "Ready", "the Workspace is ready"
    else:
        succeeded, word, message = (
            (c.FAILED_REASON if reason and failed else c.PENDING_REASON),
            reason or "Pending",
            why,
        )
    return [
        _condition(c.WORKSPACE_READY, ready, word, message),
        _condition(c.WORKSPACE_SUCCEEDED, ready, succeeded, message),
    ]


def _why(conditions: Sequence[Condition]) -> str:
    """Return the first failure, or else the first thing that is waited for."""
    missing = [condition for condition in conditions if condition.status != "True"]
    failing = [condition for condition in missing if condition.reason not in _WAITING]
    return next((condition.message for condition in (*failing, *missing)), "")


def column(message: str) -> str:
    """Return the message as the WHY column shows it: one line that fits."""
    line = " ".join(message.split())
    return line if len(line) <= c.WHY_LIMIT_CHARS else line[: c.WHY_LIMIT_CHARS - 1].rstrip() + "…"


def _state(ready: bool, old: WorkspaceStatus) -> State:
    """Return KAITO's word; once it was ready, it never is Pending again."""
    if ready:
        return "Ready"
    return "NotReady" if old.state in ("Ready", "NotReady") else "Pending"


def _was_ready(old: WorkspaceStatus) -> bool:
    condition = old.condition(c.INFERENCE_READY)
    return condition is not None and condition.status == "True"


def _served_before(seen: Observed, *, was_ready: bool) -> Progress | None:
    """Return how far that is what was made already; None where nothing was."""
    if seen.deployment is not None:
        return serving_of(seen, was_ready=was_ready)
    return progress(seen.ray_service, was_ready=was_ready) if seen.ray_service else None


def _kept(old: WorkspaceStatus, type_: str) -> list[Condition]:
    condition = old.condition(type_)
    return [condition] if condition else []


def _condition(type_: str, holds: bool, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="True" if holds else "False", reason=reason, message=message)


def dated(conditions: Sequence[Condition], seen: Observed, now: str) -> tuple[Condition, ...]:
    """Return the conditions with the time at which each last changed its status."""
    old = seen.workspace.status
    dated = []
    for condition in conditions:
        before = old.condition(condition.type)
        same = before is not None and before.status == condition.status and before.last_transition_time
        update = {
            "last_transition_time": before.last_transition_time if before and same else now,
            "observed_generation": seen.workspace.metadata.generation,
        }
        dated.append(condition.model_copy(update=update))
    return tuple(dated)
