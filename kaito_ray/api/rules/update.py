"""What may not change while a Workspace lives; the remedy is always named."""

from __future__ import annotations

from collections.abc import Iterator

from kaito_ray.api.workspace import PresetSpec, Workspace
from kaito_ray.errors import InvalidWorkspace


def faults(new: Workspace, old: Workspace) -> Iterator[InvalidWorkspace]:
    """Yield what the change from `old` to `new` may not do."""
    name = new.metadata.name
    again = f"delete it first (kubectl delete workspace {name}), or apply this under another name"
    if (new.inference is None) != (old.inference is None):
        was, is_ = ("serves a model", "tuning") if old.inference else ("tunes a model", "inference")
        yield InvalidWorkspace(is_, f"the Workspace {name} exists and {was}, which cannot change; {again}")
        return
    for field, before, after in (
        ("resource.count", old.resource.count, new.resource.count),
        ("resource.partition", old.resource.partition, new.resource.partition),
        (
            "resource.labelSelector",
            old.resource.label_selector.as_labels(),
            new.resource.label_selector.as_labels(),
        ),
        ("inference.preset", _model(old, "inference"), _model(new, "inference")),
        *_of_the_run(old, new),
    ):
        if before != after:
            yield InvalidWorkspace(field, f"it cannot change while the Workspace lives; {again}")
    if old.resource.instance_type and new.resource.instance_type != old.resource.instance_type:
        yield InvalidWorkspace(
            "resource.instanceType",
            f"it cannot change from {old.resource.instance_type} while the Workspace lives; {again}",
        )


def _model(workspace: Workspace, part: str) -> PresetSpec | None:
    preset = workspace.preset if getattr(workspace, part) else None
    return preset and preset.model_copy(update={"name": preset.name.lower()})


def _of_the_run(old: Workspace, new: Workspace) -> Iterator[tuple[str, object, object]]:
    """Yield what a tuning run is made of: it has one set of arguments, and its job is never written again."""
    yield "tuning.preset", _model(old, "tuning"), _model(new, "tuning")
    if old.tuning is None or new.tuning is None:
        return
    yield "tuning.method", (old.tuning.method or "").lower(), (new.tuning.method or "").lower()
    for field in ("config", "input", "output", "workers", "resume"):
        yield f"tuning.{field}", getattr(old.tuning, field), getattr(new.tuning, field)
