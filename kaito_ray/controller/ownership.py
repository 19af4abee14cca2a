"""Whether Workspaces in this cluster are ours to reconcile: two operators on one kind would fight."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import monotonic
from typing import Final

from kaito_ray.api import names
from kaito_ray.api.crd import OWNER_ANNOTATION
from kaito_ray.errors import ApiRefused
from kaito_ray.kube import events
from kaito_ray.kube.cluster import CRDS, VALIDATING_WEBHOOKS, Cluster, Manifest
from kaito_ray.kube.events import emit, timestamp

log = logging.getLogger(__name__)

FRESH_S: Final = 60.0
"""How long one answer is believed."""


@dataclass
class Ownership:
    """Asks the cluster, not more often than once a minute."""

    cluster: Cluster
    _asked_at: float = -FRESH_S
    _problem: str | None = None

    @property
    def known(self) -> str | None:
        """Why nothing was reconciled when it was asked last."""
        return self._problem

    async def problem(self) -> str | None:
        """Return why nothing may be reconciled, or None.

        Raises:
            errors.ApiUnavailable: the cluster could not be asked.
        """
        if monotonic() - self._asked_at >= FRESH_S:
            await self._ask()
            self._asked_at = monotonic()
        return self._problem

    async def _ask(self) -> None:
        try:
            crd = await self.cluster.get(CRDS, _CRD)
            webhooks = await self.cluster.list(VALIDATING_WEBHOOKS)
        except ApiRefused:  # not ours to read, so not ours to judge
            return
        problem = _problem(crd, webhooks)
        if problem and problem != self._problem:  # said once: it stands until somebody acts
            log.error("not reconciling any Workspace: %s", problem)
            if crd is not None:
                await emit(self.cluster, crd, events.not_reconciling(problem), now=timestamp())
        self._problem = problem


_CRD: Final = f"{names.PLURAL}.{names.GROUP}"


def _problem(crd: Manifest | None, webhooks: list[Manifest]) -> str | None:
    if crd is not None and (crd["metadata"].get("annotations") or {}).get(OWNER_ANNOTATION) != names.MANAGED_BY:
        return f"the CRD {_CRD} is not kaito-ray's; apply the one of this chart once the other operator is gone"
    foreign = [found["metadata"]["name"] for found in webhooks if _judges_workspaces(found)]
    if foreign:
        return f"another operator's webhook checks Workspaces ({', '.join(foreign)}); remove that operator first"
    return None


def _judges_workspaces(configuration: Manifest) -> bool:
    if configuration["metadata"]["name"] == names.MANAGED_BY:
        return False
    return any(
        names.GROUP in rule.get("apiGroups", ()) and names.PLURAL in rule.get("resources", ())
        for webhook in configuration.get("webhooks") or ()
        for rule in webhook.get("rules") or ()
    )
