"""What is left to do until a Workspace of KAITO's is ours. Pure: the steps follow from what there is, so whoever is
killed between two of them goes on with the next.

The machines stay: KAITO's pods are stopped, and Ray's take their place on the same nodes. The Service keeps its address,
and leads to KAITO's pods until the operator finds that the model answers. What KAITO made goes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kaito_ray.api import conditions as c
from kaito_ray.api import names
from kaito_ray.api.workspace import Workspace
from kaito_ray.controller import kaito
from kaito_ray.controller.decide import Action, Delete, Replace
from kaito_ray.kube.cluster import (
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    REVISIONS,
    SERVICES,
    STATEFUL_SETS,
    WORKSPACES,
    Manifest,
    Resource,
)
from kaito_ray.kube.conditions import holds

REPLICAS_BEFORE: Final = "ray.kaito.sh/replicas-before"
"""Annotation of a StatefulSet that was stopped: how many pods it had, for the way back."""


@dataclass(frozen=True)
class Step:
    """One step."""

    words: str
    action: Action | None
    """None: the operator does it, and is waited for."""


@dataclass(frozen=True)
class Scene:
    """A Workspace and what KAITO made for it, at one moment."""

    workspace: Manifest
    service: Manifest | None = None
    headless: Manifest | None = None
    stateful_set: Manifest | None = None
    deployment: Manifest | None = None
    revisions: tuple[Manifest, ...] = ()
    node_pool: Manifest | None = None
    node_claims: tuple[Manifest, ...] = ()
    nodes: tuple[Manifest, ...] = ()


def steps(seen: Scene) -> tuple[Step, ...]:
    """Return what is left to do, in order; nothing where nothing of KAITO's is left."""
    leftovers = tuple(_leftovers(seen))
    theirs = any(found is not None and not kaito.is_ours(found) for found in (seen.service, seen.deployment))
    if not (theirs or leftovers):
        return ()
    taken = seen.service is not None and not theirs
    return (*_takeover(seen, taken=taken), *leftovers)


def _takeover(seen: Scene, *, taken: bool) -> Iterator[Step]:
    if not taken:
        yield from _machines(seen)
        if (pods := seen.stateful_set) is not None and pods["spec"].get("replicas", 1) > 0:
            count = str(pods["spec"].get("replicas", 1))
            stopped = {**_annotated(pods, {REPLICAS_BEFORE: count}), "spec": {**pods["spec"], "replicas": 0}}
            words = f"stop KAITO's pods ({count}): their GPUs are needed; until the model answers again, nobody does"
            yield Step(words, Replace(STATEFUL_SETS, stopped))
        if names.ADOPT_ANNOTATION not in (seen.workspace["metadata"].get("annotations") or {}):
            asked = _annotated(seen.workspace, {names.ADOPT_ANNOTATION: "true"})
            yield Step("let the operator serve the Workspace beside what KAITO left", Replace(WORKSPACES, asked))
    if not taken or not holds(seen.workspace, c.WORKSPACE_READY):
        name = seen.workspace["metadata"]["name"]
        yield Step(f"wait until the model answers; the operator leads the Service {name} to it then", None)


def _machines(seen: Scene) -> Iterator[Step]:
    """Make the machines look like ours, and free them of a NodePool of fixed size, which cannot become one of ours."""
    meta = seen.workspace["metadata"]
    mine = {names.WORKSPACE_LABEL: meta["name"], names.WORKSPACE_NAMESPACE_LABEL: meta["namespace"]}
    selected = Workspace.from_wire(seen.workspace).resource.label_selector.as_labels()
    for resource, found in ((NODE_CLAIMS, seen.node_claims), (NODES, seen.nodes)):
        for one in found:
            if not {**selected, **mine}.items() <= kaito.labels(one).items():
                labelled = {"labels": {**kaito.labels(one), **selected, **mine}}
                words = f"keep {resource.kind} {one['metadata']['name']}: label it for the Workspace"
                yield Step(words, Replace(resource, {**one, "metadata": {**one["metadata"], **labelled}}))
    if seen.node_pool is not None and kaito.made_by_karpenter_for(seen.node_pool, meta["namespace"], meta["name"]):
        yield Step(
            f"remove KAITO's NodePool {seen.node_pool['metadata']['name']}, and keep its machines",
            _deletion(NODE_POOLS, seen.node_pool, orphan=True),
        )


def _leftovers(seen: Scene) -> Iterator[Step]:
    found: list[tuple[Resource, Manifest]] = [(REVISIONS, revision) for revision in seen.revisions]
    if seen.headless is not None:
        found.insert(0, (SERVICES, seen.headless))
    if seen.stateful_set is not None:
        found.insert(0, (STATEFUL_SETS, seen.stateful_set))
    for resource, manifest in found:
        yield Step(f"remove KAITO's {resource.kind} {manifest['metadata']['name']}", _deletion(resource, manifest))
    annotations: Mapping[str, str] = seen.workspace["metadata"].get("annotations") or {}
    marks = (*kaito.MARKS, names.ADOPT_ANNOTATION)
    if any(mark in annotations for mark in marks):
        kept = {key: value for key, value in annotations.items() if key not in marks}
        bare = {**seen.workspace, "metadata": {**seen.workspace["metadata"], "annotations": kept}}
        yield Step("remove KAITO's marks from the Workspace, and ours of the handover", Replace(WORKSPACES, bare))


def _annotated(manifest: Manifest, more: Mapping[str, str]) -> Manifest:
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), **more}}}


def _deletion(resource: Resource, manifest: Manifest, *, orphan: bool = False) -> Delete:
    meta = manifest["metadata"]
    return Delete(resource, meta["name"], meta.get("namespace"), meta["uid"], orphan=orphan)
