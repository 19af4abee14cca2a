"""`resource`: which machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kaito_ray.api.rules import syntax
from kaito_ray.api.workspace import LabelSelector, PartitionSpec, ResourceSpec, Workspace
from kaito_ray.errors import InvalidWorkspace

_KARPENTER: Final = "karpenter.kaito.sh/"
RESERVED_LABELS: Final = frozenset(
    {
        *("kaito.sh/workspace", "kaito.sh/workspacenamespace"),
        *("kaito.sh/ragengine", "kaito.sh/ragenginenamespace"),
        *(_KARPENTER + "workspace-name", _KARPENTER + "workspace-namespace"),
        *(_KARPENTER + "inferenceset", _KARPENTER + "inferenceset-namespace"),
    }
)
"""Labels that the operator writes; in a selector they are stripped, as in KAITO."""

MIG_PROFILE: Final = re.compile(r"[1-7]g\.(?P<gigabytes>\d{1,3})gb(\+[a-z]+)*")


def faults(workspace: Workspace) -> Iterator[InvalidWorkspace]:
    """Yield what is wrong with `resource`."""
    resource = workspace.resource
    yield from _selector_faults(resource.label_selector)
    if resource.preferred_nodes:
        yield InvalidWorkspace(
            "resource.preferredNodes",
            "KAITO deprecated it and reads it no more; select nodes by resource.labelSelector instead",
        )
    if resource.partition:
        yield from _partition_faults(resource, resource.partition)
    for index, name in enumerate(resource.instance_types):
        if name in resource.instance_types[:index]:
            yield InvalidWorkspace(f"resource.instanceTypes[{index}]", f"{name} is listed twice; remove one")


def _selector_faults(selector: LabelSelector) -> Iterator[InvalidWorkspace]:
    for key, value in selector.match_labels.items():
        if problem := syntax.label(key, value):
            yield InvalidWorkspace(f"resource.labelSelector.matchLabels.{key}", problem)
    if selector.match_labels and selector.match_labels.keys() <= RESERVED_LABELS:
        yield InvalidWorkspace(
            "resource.labelSelector.matchLabels",
            f"{', '.join(sorted(selector.match_labels))}: only the operator sets these; add a label of your own",
        )
    for index, wanted in enumerate(selector.match_expressions):
        field = f"resource.labelSelector.matchExpressions[{index}]"
        if wanted.operator != "In" or len(wanted.values) != 1:
            yield InvalidWorkspace(
                field, "a new node gets exact labels, so only operator In with one value can be used; use matchLabels"
            )
        elif problem := syntax.label(wanted.key, wanted.values[0]):
            yield InvalidWorkspace(field, problem)
        elif selector.match_labels.get(wanted.key, wanted.values[0]) != wanted.values[0]:
            yield InvalidWorkspace(field, f"{wanted.key} has another value in matchLabels; no node can have both")


def _partition_faults(resource: ResourceSpec, partition: PartitionSpec) -> Iterator[InvalidWorkspace]:
    if resource.instance_type or resource.instance_types:
        yield InvalidWorkspace(
            "resource.partition", "a part of a GPU can be had on nodes of your own only; remove resource.instanceType"
        )
    if partition.mode == "mig":
        if not partition.profile:
            yield InvalidWorkspace("resource.partition.profile", "mode mig needs a profile, for example 1g.10gb")
        elif not MIG_PROFILE.fullmatch(partition.profile):
            yield InvalidWorkspace(
                "resource.partition.profile", f"{partition.profile!r} is no MIG profile; use one such as 1g.10gb"
            )
        if partition.count is not None:
            yield InvalidWorkspace("resource.partition.count", "mode mig takes one slice; remove it")
    else:
        if partition.profile:
            yield InvalidWorkspace("resource.partition.profile", "mode accelerator takes whole GPUs; remove it")
        if partition.count is None:
            yield InvalidWorkspace("resource.partition.count", "mode accelerator needs the number of GPUs to take")
