"""What should exist for a Workspace, and whether what exists is that. Pure.

Each child carries in an annotation what was written, so that a field that the operator stops writing is noticed, while
fields that the API server or KubeRay fill in are left alone.

A RayService is pinned: as long as its inputs are the same, a newer operator that would render it differently leaves it
alone, for any change would start a second cluster beside the first. What changes in place is always up to date.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import yaml

from kaito_ray.api import names
from kaito_ray.catalog.gpus import quantity
from kaito_ray.controller import kaito
from kaito_ray.controller.judgement import accepted_mark
from kaito_ray.controller.observe import Child, Observed, child_names
from kaito_ray.controller.progress import progress
from kaito_ray.controller.served_model import model_mark
from kaito_ray.errors import Conflict, ManagedByKaito, NameTaken
from kaito_ray.kube.cluster import DEPLOYMENTS, NODE_POOLS, SERVICES, Manifest
from kaito_ray.render import adapters
from kaito_ray.render.disruption import disruption_budget
from kaito_ray.render.inputs import ServingInputs
from kaito_ray.render.networkpolicy import network_policy
from kaito_ray.render.nodepool import nodepool
from kaito_ray.render.rayservice import rayservice
from kaito_ray.render.scaling import by_machines, most_pods
from kaito_ray.render.secrets import keys, registry
from kaito_ray.render.service import service

APPLIED: Final = "ray.kaito.sh/applied"
"""Annotation: the spec as it was written, as JSON (RayService, Deployment), or its hash."""
INPUTS: Final = "ray.kaito.sh/inputs"
"""Annotation of a RayService or Deployment: hash of what its pods and replicas were rendered from."""

_WRITTEN: Final = ("spec", "data", "type")


def desired(inputs: ServingInputs, seen: Observed) -> dict[Child, Manifest]:
    """Return every child as it should be, in the order in which they are made."""
    workspace = inputs.workspace
    made = [
        keys(workspace, inputs.api_keys),
        registry(workspace, inputs.pull_secrets),
        service(workspace, seen.ray_cluster),
        network_policy(workspace),
        disruption_budget(workspace, most_pods(inputs), at_once=inputs.plan.nodes),
    ]
    if inputs.provisioner == "karpenter":
        made.insert(0, nodepool(inputs))
    wanted = {(item["kind"], item["metadata"]["name"]): stamped(item) for item in made}
    serving = pinned(rayservice(inputs), seen.ray_service, _inputs_hash(inputs), _with_fresh_user_config)
    serving = annotated(serving, {**model_mark(seen.manifest, seen.model), **accepted_mark(seen.manifest)})
    wanted[serving["kind"], serving["metadata"]["name"]] = serving
    children = child_names(workspace.metadata.namespace, workspace.metadata.name)
    if _leads_to_kaito(seen) and not progress(seen.ray_service, was_ready=False).ready:
        del wanted[SERVICES.kind, workspace.metadata.name]  # it leads to KAITO's pods until ours answer
    return {child: wanted[key] for child in children if (key := (child[0].kind, child[1])) in wanted}


def pinned_image(seen: Observed) -> str | None:
    """Return the worker image that the Workspace asks for, or else the one that it was first served with."""
    if asked := seen.workspace.metadata.annotations.get(names.WORKER_IMAGE_ANNOTATION):
        return asked
    if seen.ray_service is None or (applied := _applied(seen.ray_service)) is None:
        return None
    pod = applied["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    image: str = pod["containers"][0]["image"]
    return image


def require_ours(seen: Observed) -> None:
    """Check that no child's name is taken.

    Raises:
        ManagedByKaito: a child of the Workspace was made by KAITO.
        Conflict: it belonged to a former Workspace of the same name, and is about to be collected.
        NameTaken: it belongs to somebody else.
    """
    meta = seen.workspace.metadata
    adopting = names.ADOPT_ANNOTATION in meta.annotations
    for (resource, name), live in seen.children.items():
        owned = any(owner["uid"] == meta.uid for owner in live["metadata"].get("ownerReferences") or ())
        by_kaito = owned and not kaito.is_ours(live)
        if resource == NODE_POOLS:
            labels = kaito.labels(live)
            owned = (labels.get(names.WORKSPACE_LABEL), labels.get(names.WORKSPACE_NAMESPACE_LABEL)) == (
                meta.name,
                meta.namespace,
            )
            by_kaito = kaito.made_by_karpenter_for(live, meta.namespace, meta.name)
        if by_kaito and not (adopting and resource in _TAKEN_OVER):
            raise ManagedByKaito(
                f"{resource.kind} {name} was made by KAITO; `kaito-ray migrate {meta.name}` hands the Workspace over"
            )
        if not owned and any(_is_namesake(owner, seen) for owner in live["metadata"].get("ownerReferences") or ()):
            raise Conflict(f"{resource.kind} {name} of the former Workspace of that name is not gone yet")
        if not owned:
            raise NameTaken(
                f"{resource.kind} {name} exists and belongs to somebody else; delete it, or choose another name"
            )


_TAKEN_OVER: Final = (SERVICES, DEPLOYMENTS)
"""What of KAITO's is written over when a Workspace is handed over; the rest is removed before or after."""


def _leads_to_kaito(seen: Observed) -> bool:
    return seen.service is not None and not kaito.is_ours(seen.service)


def _is_namesake(owner: Mapping[str, Any], seen: Observed) -> bool:
    return bool(owner["kind"] == names.KIND and owner["name"] == seen.workspace.metadata.name)


def drifted(wanted: Manifest, live: Manifest) -> bool:
    """Return whether `live` must be written to become `wanted`."""
    marks = (live["metadata"].get("annotations") or {}, wanted["metadata"].get("annotations") or {})
    if any(marks[0].get(key) != marks[1].get(key) for key in (APPLIED, INPUTS)):
        return True
    return not _covers({k: wanted[k] for k in (*_WRITTEN, "metadata") if k in wanted}, live)


def updated(wanted: Manifest, live: Manifest) -> Manifest:
    """Return what to write over `live`: `wanted`, with what only the API server knows."""
    out = {**{k: v for k, v in live.items() if k not in _WRITTEN}, **deepcopy(wanted)}
    meta, mine = live["metadata"], wanted["metadata"]
    out["metadata"] = {
        **meta,
        "labels": {**(meta.get("labels") or {}), **mine["labels"]},
        "annotations": {**(meta.get("annotations") or {}), **mine["annotations"]},
    }
    if "ownerReferences" in mine:
        out["metadata"]["ownerReferences"] = mine["ownerReferences"]
    if wanted["kind"] == "Service":  # its addresses are given once
        given = {k: v for k, v in live["spec"].items() if k.startswith(("clusterIP", "ipFamil"))}
        out["spec"] = {**given, **out["spec"]}
    return out


def stamped(manifest: Manifest) -> Manifest:
    """Return the manifest with a mark of what is written."""
    written = json.dumps({key: manifest.get(key) for key in _WRITTEN}, sort_keys=True)
    return annotated(manifest, {APPLIED: names.short_hash(written)})


def annotated(manifest: Manifest, more: Mapping[str, str]) -> Manifest:
    """Return the manifest with these annotations too."""
    meta = {**manifest["metadata"], "annotations": {**manifest["metadata"].get("annotations", {}), **more}}
    return {**manifest, "metadata": meta}


def _as_applied(applied: Manifest, fresh: Manifest) -> Manifest:
    del fresh
    return applied


def pinned(
    wanted: Manifest,
    live: Manifest | None,
    inputs: str,
    kept: Callable[[Manifest, Manifest], Manifest] = _as_applied,
) -> Manifest:
    """Return `wanted` with the spec that is applied already where its inputs, a hash, are still the same.

    `kept` makes the spec of the applied and the fresh one, where a part of it changes in place.
    """
    spec = wanted["spec"]
    marks = (live or {"metadata": {}})["metadata"].get("annotations") or {}
    if live is not None and marks.get(INPUTS) == inputs and (applied := _applied(live)) is not None:
        spec = kept(applied, spec)
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return annotated({**wanted, "spec": spec}, {APPLIED: text, INPUTS: inputs})


def _applied(live: Manifest) -> Manifest | None:
    text = (live["metadata"].get("annotations") or {}).get(APPLIED)
    try:
        spec: Manifest = json.loads(text or "")
    except ValueError:
        return None
    return spec


def _with_fresh_user_config(applied: Manifest, fresh: Manifest) -> Manifest:
    return {**applied, "serveConfigV2": _with_user_config(applied["serveConfigV2"], fresh["serveConfigV2"])}


def _with_user_config(applied: str, fresh: str) -> str:
    """Return the applied Serve config with the part that changes in place taken from the fresh one."""
    before, now = yaml.safe_load(applied), yaml.safe_load(fresh)
    for old, new in zip(before["applications"], now["applications"], strict=True):
        if [_without_moment(one) for one in old["deployments"]] != [_without_moment(one) for one in new["deployments"]]:
            old["deployments"] = new["deployments"]
    if before == yaml.safe_load(applied):
        return applied
    return yaml.safe_dump(before, sort_keys=False, width=120, allow_unicode=True)


def _without_moment(deployment: Mapping[str, Any]) -> Manifest:
    """Return the deployment without the replicas it starts with: as many as run now, which is no reason to write."""
    scaling = deployment.get("autoscaling_config") or {}
    return {**deployment, "autoscaling_config": {k: v for k, v in scaling.items() if k != "initial_replicas"}}


def _inputs_hash(inputs: ServingInputs) -> str:
    """Return a hash of what a person or the planner said, and of nothing that this version of the operator chose."""
    workspace, plan_ = inputs.workspace, inputs.plan
    spec = inputs.inference.to_wire()
    for live in ("adapters", "limits", "autoscaling", "apiKeysSecret"):
        spec.pop(live, None)
    said = {
        "inference": spec,
        "lora": bool(adapters.slots(plan_.preset, inputs.inference)),
        "mounts": adapters.volumes(inputs.inference),
        "resource": workspace.resource.to_wire(),
        "annotations": {k: v for k, v in workspace.metadata.annotations.items() if k in _MEANINGFUL},
        "config": [dict(inputs.config.planned), dict(inputs.config.engine)],
        "machine": plan_.machine.instance_type,
        "split": [plan_.nodes, plan_.tensor_parallel, plan_.pipeline_parallel, plan_.data_parallel],
    }
    if inputs.inference.autoscaling is not None:
        # Of its numbers only what they do to the pods: workers of their own, or less of the one machine's memory for each.
        said["scaled"] = "machines" if by_machines(inputs) else plan_.memory.kv_cache_bytes
    return names.short_hash(json.dumps(said, sort_keys=True))


_MEANINGFUL: Final = (
    names.PERFORMANCE_MODE_ANNOTATION,
    names.WORKER_IMAGE_ANNOTATION,
    names.RETRY_ANNOTATION,
)


def _covers(wanted: Any, live: Any, within: str = "") -> bool:
    """Return whether `live` says everything that `wanted` says; it may say more.

    An API server leaves out what is empty, and writes quantities in its own way: `1000m` of CPU is `1`.
    """
    if not wanted and live is None:
        return True
    if within in ("requests", "limits") and isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return all(key in live and quantity(amount) == quantity(live[key]) for key, amount in wanted.items())
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(_covers(value, live.get(key), key) for key, value in wanted.items())
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(live, Sequence)
            and len(wanted) == len(live)
            and all(_covers(mine, theirs) for mine, theirs in zip(wanted, live, strict=True))
        )
    return bool(wanted == live)
