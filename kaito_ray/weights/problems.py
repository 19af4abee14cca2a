"""What can go wrong while weights are fetched, in words for the person who waits for the model."""

from __future__ import annotations

from kaito_ray.errors import KaitoRayError


class WeightsUnavailable(KaitoRayError):
    """No source of the weights worked; the message says what was tried and what to do."""

    reason = "WeightsUnavailable"


class ModelNotFound(WeightsUnavailable):
    """The hub knows no such model or revision, or hides it from this token."""

    reason = "ModelNotFound"


class ModelAccessDenied(WeightsUnavailable):
    """The hub wants the token of somebody who accepted the model's licence."""

    reason = "ModelAccessDenied"


class SourceUnreachable(KaitoRayError):
    """A source that cannot be reached from here; the next one may be."""

    reason = "SourceUnreachable"
