"""KAITO's annotations and labels: each is honoured, mapped with a warning, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kaito_ray.api import names
from kaito_ray.api.rules import syntax
from kaito_ray.api.workspace import Workspace
from kaito_ray.errors import InvalidWorkspace

VALUES: Final = {
    names.ENABLE_LB_ANNOTATION: ("True", "False"),
    names.PERFORMANCE_MODE_ANNOTATION: ("balanced", "interactivity", "throughput"),
    names.RUNTIME_ANNOTATION: ("vllm", "transformers"),
    "kaito.sh/disable-benchmark": ("true", "false"),
    "kaito.sh/model-streaming": ("disabled",),
    "kaito.sh/use-local-weights": ("false",),
    names.ADOPT_ANNOTATION: ("true",),
}
"""Values that are accepted, compared without case. No benchmark runs and nothing is streamed, so the last three of
KAITO's say what is the case already."""

REFUSED: Final = {
    "kaito.sh/bypass-resource-checks": "memory is never left to chance; remove it, or ask for a smaller context",
    "kaito.sh/node-image-family": f"choose a NodeClass with that image by {names.NODE_CLASS_ANNOTATION} instead",
    "kaito.sh/model-mirror-storage-class": "there is no model mirror; remove it",
    "kaito.sh/streaming-service-account": "weights are not streamed from a bucket; remove it",
    "inference.kaito.sh/stream-source-type": "weights are not streamed from a bucket; remove it",
    "inference.kaito.sh/stream-datarefs-url": "weights are not streamed from a bucket; remove it",
    "inference.kaito.sh/stream-identity-client-id": "weights are not streamed from a bucket; remove it",
    "inference.kaito.sh/static-model-mirror": "there is no model mirror; remove it",
}

REFUSED_LABELS: Final = {
    "kaito.sh/inference-role": "a replica does prefill and decode; remove it, and serve the model by one Workspace",
    "multiroleinference.kaito.sh/created-by": "a replica does prefill and decode; serve the model by one Workspace",
}
MAPPED_LABELS: Final = {
    "inferenceset.kaito.sh/created-by": "there are no InferenceSets; this is a Workspace of its own, and inference.autoscaling "
    "says how many replicas it has",
    "kaito.sh/upgrade-to-version": "it upgrades nothing; `kaito-ray upgrade` moves the worker image",
}


def faults(workspace: Workspace) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with the annotations."""
    annotations = workspace.metadata.annotations
    for key, value in annotations.items():
        field = f"metadata.annotations[{key}]"
        if key in REFUSED:
            yield InvalidWorkspace(field, REFUSED[key])
        elif key in VALUES and value.lower() not in map(str.lower, VALUES[key]):
            yield InvalidWorkspace(field, f"{value!r} is not supported; use {' or '.join(VALUES[key])}, or remove it")
        elif key == names.NODE_CLASS_ANNOTATION and (problem := syntax.dns_subdomain(value)):
            yield InvalidWorkspace(field, problem)
    for key in REFUSED_LABELS.keys() & workspace.metadata.labels.keys():
        yield InvalidWorkspace(f"metadata.labels[{key}]", REFUSED_LABELS[key])
    serves = workspace.inference is not None and workspace.inference.preset is not None
    if load_balancer(workspace) and serves and not (workspace.inference and workspace.inference.api_keys_secret):
        yield InvalidWorkspace(
            f"metadata.annotations[{names.ENABLE_LB_ANNOTATION}]",
            "a load balancer without API keys would open the model to everybody; set inference.apiKeysSecret",
        )


def load_balancer(workspace: Workspace) -> bool:
    """Return whether the Workspace asks for a load balancer."""
    return workspace.metadata.annotations.get(names.ENABLE_LB_ANNOTATION, "").lower() == "true"


def warnings(workspace: Workspace) -> Iterator[str]:
    """Yield what is accepted but means something else here."""
    if workspace.metadata.annotations.get(names.RUNTIME_ANNOTATION, "").lower() == "transformers":
        yield f"metadata.annotations[{names.RUNTIME_ANNOTATION}]: vLLM serves every model here, /chat included"
    for key in sorted(MAPPED_LABELS.keys() & workspace.metadata.labels.keys()):
        yield f"metadata.labels[{key}]: {MAPPED_LABELS[key]}"
    if load_balancer(workspace) and workspace.inference and workspace.inference.template is not None:
        yield f"metadata.annotations[{names.ENABLE_LB_ANNOTATION}]: whoever reaches it may use the pod; let it ask for keys itself"
