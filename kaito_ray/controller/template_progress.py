"""How far a pod of the person's own has come: its Deployment, and the pods where that says too little. Pure."""

from __future__ import annotations

from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.controller.deployment_state import DeploymentState
from kaito_ray.controller.diagnosis import cause_of_pods
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.pod_cause import of_refusal
from kaito_ray.controller.progress import Progress
from kaito_ray.controller.rollout import TIMED_OUT, UPGRADING
from kaito_ray.render.template import PROGRESS_DEADLINE_S

ONE_BY_ONE: Final = "OneByOne"
"""An edit is rolled out where no machine is made for a second pod: one pod goes before the next comes."""


def serving_of(seen: Observed, *, was_ready: bool) -> Progress:
    """Return whether the pods answer; while an edit is rolled out, those before it still do."""
    if seen.deployment is None:
        return Progress(False, c.INFERENCE_PENDING_REASON, "the Deployment is being created")
    state = DeploymentState.of(seen.deployment)
    if state.available >= (1 if was_ready else state.wanted):
        return Progress(True, c.INFERENCE_READY_REASON, f"{state.available} of {state.wanted} pods are ready")
    return _not_ready(state, seen, c.INFERENCE_PENDING_REASON)


def upgrade_of(seen: Observed) -> Progress | None:
    """Return how far an edit is rolled out beside pods that serve; None where none is."""
    if seen.deployment is None or (state := DeploymentState.of(seen.deployment)).settled:
        return None
    surge = seen.deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return _not_ready(state, seen, UPGRADING if surge else ONE_BY_ONE)


def _not_ready(state: DeploymentState, seen: Observed, waiting: str) -> Progress:
    if cause := of_refusal(state.refused) or cause_of_pods(seen):
        return Progress(False, cause.reason, cause.message)
    counted = f"{state.updated} of {state.wanted} pods are up to date, {state.available} are ready"
    if state.late:
        late = f"no progress for {PROGRESS_DEADLINE_S // 60} min: {counted}; see their logs"
        return Progress(False, TIMED_OUT, late)
    return Progress(False, waiting, counted)
