"""Every error that kaito-ray raises on purpose.

    KaitoRayError
    ├── UserError            waits for an edit of the manifest; retrying changes nothing
    │   ├── InvalidWorkspace     a field breaks a rule (named in `field`)
    │   ├── UnknownPreset        no such model in the catalog
    │   ├── ApiRefused           the API server refused a request, and would refuse it again
    │   │   ├── WebhookDenied        somebody's admission webhook refused an object
    │   │   └── WebhookUnavailable   an admission webhook does not answer, so nothing can be written
    │   ├── NameTaken            a child's name belongs to somebody else's object
    │   ├── ManagedByKaito       KAITO's children are still there
    │   ├── DoesNotFit           the model does not fit the machine
    │   ├── UnsupportedGPU       the engine image cannot run on that GPU
    │   ├── AdapterRefused       an adapter is unsafe, broken, or made for another model
    │   ├── ImageNotFound        the registry has no such image
    │   └── RegistryDenied       the registry wants other credentials
    └── TransientError       goes away by itself; the operator tries again with back-off
        ├── ApiUnavailable       the API server answered 5xx, 429 or not at all
        ├── Conflict             somebody wrote the object first
        └── RegistryUnavailable  an image registry answered 5xx, 429, broken data or not at all

`reason` goes unchanged into conditions and Events, so it is CamelCase and stable.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


class KaitoRayError(Exception):
    """Base of every error raised on purpose."""

    reason: str = "InternalError"


class UserError(KaitoRayError):
    """The manifest must be edited; the message names the field and the remedy."""


class TransientError(KaitoRayError):
    """Worth trying again, unchanged."""

    reason = "Transient"


class InvalidWorkspace(UserError):
    """A field of a Workspace breaks a rule.

    `field` is the path from the root of the manifest, for example `inference.preset.name`.
    """

    reason = "InvalidWorkspace"

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


class UnknownPreset(InvalidWorkspace):
    """The named model is in no catalog; the nearest known names are suggested."""

    reason = "UnknownPreset"

    def __init__(self, field: str, name: str, known: Sequence[str]) -> None:
        near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `kaito-ray presets list`"
        super().__init__(field, f"no preset is named {name!r}; {hint}")


class ApiRefused(UserError):
    """The Kubernetes API answered 400, 403 or 422, or does not know the kind; the message is its own."""

    reason = "ApiRefused"


class WebhookDenied(ApiRefused):
    """An admission webhook that is not ours refused an object; the message is its own."""

    reason = "WebhookDenied"


class WebhookUnavailable(ApiRefused):
    """An admission webhook that is not ours does not answer; somebody must repair or remove it."""

    reason = "WebhookUnavailable"


class NameTaken(UserError):
    """An object that the Workspace needs exists under that name, and belongs to somebody else."""

    reason = "NameTaken"


class ManagedByKaito(UserError):
    """The Workspace still has children that KAITO made; it is left alone until they are gone."""

    reason = "ManagedByKaito"


class DoesNotFit(UserError):
    """The model needs more memory than the machine has."""

    reason = "DoesNotFit"


class UnsupportedGPU(UserError):
    """The GPU is too old or of the wrong kind for the engine image."""

    reason = "UnsupportedGPU"


class AdapterRefused(UserError):
    """A LoRA adapter is unsafe to unpack, broken, or does not fit the base model or the engine's limits."""

    reason = "AdapterRefused"


class ImageNotFound(UserError):
    """The registry has no such image, or hides it from these credentials."""

    reason = "ImageNotFound"


class RegistryDenied(UserError):
    """The registry refused every credential that there is, and anonymous access."""

    reason = "RegistryDenied"


class ApiUnavailable(TransientError):
    """The Kubernetes API answered 5xx or 429, or could not be reached."""

    reason = "ApiUnavailable"


class Conflict(TransientError):
    """The object changed between our read and our write; read again and decide again."""

    reason = "Conflict"


class RegistryUnavailable(TransientError):
    """An image registry answered 5xx or 429, sent data that does not match its digest, or could not be reached."""

    reason = "RegistryUnavailable"
