"""Whether a Workspace may be carried out: the rules of admission, for the webhook and for every look at a Workspace.

A webhook can be absent: with Roles only the operator may not publish one, and a Workspace may be older than it. So each
look judges too, and says in a condition and an Event what the webhook would have answered. What it compares an edit with
is what runs: the manifest that was carried out last, kept as an annotation of the RayService or RayJob. A manifest that
was carried out is not judged again, so that rules that came later stop nothing that serves.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Final

from kaito_ray.api.admission import judged_part, refusals
from kaito_ray.catalog.load import presets
from kaito_ray.controller.observe import Observed
from kaito_ray.controller.settings import Settings
from kaito_ray.errors import InvalidWorkspace, UserError
from kaito_ray.kube.cluster import Manifest

ACCEPTED: Final = "ray.kaito.sh/accepted"
"""Annotation of a RayService, RayJob or Deployment: what of the Workspace's manifest is judged, as it was carried out, as JSON."""


class NotAdmitted(UserError):
    """The manifest breaks rules; the message has every reason."""

    def __init__(self, faults: Sequence[InvalidWorkspace]) -> None:
        self.reason = faults[0].reason
        super().__init__("; ".join(map(str, faults)))


def faults(new: Manifest, old: Manifest | None, settings: Settings) -> list[InvalidWorkspace]:
    """Return every reason to refuse `new`, which replaces `old` where that is given."""
    return refusals(new, old, presets=_preset_names(), data_allow=settings.data_allow)


def require_admissible(seen: Observed, settings: Settings) -> None:
    """Check the Workspace as it is, and against what runs.

    Raises:
        NotAdmitted: it breaks rules.
    """
    if found := faults(seen.manifest, _running(seen), settings):
        raise NotAdmitted(found)


def accepted_mark(manifest: Manifest) -> dict[str, str]:
    """Return the annotation that says what is carried out."""
    return {ACCEPTED: json.dumps(judged_part(manifest), sort_keys=True, separators=(",", ":"))}


def _running(seen: Observed) -> Manifest | None:
    """Return the manifest that was carried out last; None where nothing was."""
    work = seen.ray_service or seen.ray_job or seen.deployment
    if work is None:
        return None
    try:
        found: Manifest = json.loads((work["metadata"].get("annotations") or {})[ACCEPTED])
    except (KeyError, ValueError):  # made before there was such a mark: what is there was accepted
        return seen.manifest
    return found


@cache
def _preset_names() -> frozenset[str]:
    return frozenset(name for preset in presets().values() for name in preset.names)
