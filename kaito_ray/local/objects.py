"""The API server's objects as this agent sees them: a copy in memory, kept true by watches and by our own writes.

Reconcilers read the copy, which costs nothing, and write through it: an unchanged object is not written again, and
what was just written is seen at once, so that no reconciler acts twice on the same news.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import uuid4

from kaito_ray.kube.cluster import EVENTS, Change, Cluster, Manifest, Resource

Key = tuple[str, str]
"""Namespace (empty for cluster-scoped kinds) and name."""


_ROUNDING_S: Final = 2.0
"""Written times are whole seconds, so a recent one may lie a little ahead."""
_REMEMBERED: Final = 1000
"""How many deleted objects are kept in mind; an answer that is overtaken by that many deletions does not exist."""


class Objects:
    """A copy of every object of some kinds."""

    def __init__(self, cluster: Cluster, resources: Sequence[Resource]) -> None:
        self._cluster = cluster
        self._objects: dict[Resource, dict[Key, Manifest]] = {r: {} for r in resources}
        self._unsynced = set(resources)
        self._listeners: list[asyncio.Event] = []
        self._gone: OrderedDict[str, None] = OrderedDict()

    async def follow(self) -> None:
        """Keep the copy true, for ever."""
        async with asyncio.TaskGroup() as watches:
            for resource in self._objects:
                watches.create_task(self._follow(resource), name=f"watch {resource.plural}")

    def listener(self) -> asyncio.Event:
        """Return an event that is set at each change; its owner clears it."""
        self._listeners.append(event := asyncio.Event())
        return event

    @property
    def synced(self) -> bool:
        """Whether everything that existed at the start has been seen; before, absence means nothing."""
        return not self._unsynced

    def all(self, resource: Resource) -> list[Manifest]:
        """Return every object of a kind, in the order of namespace and name. The caller changes copies only."""
        return [item for _, item in sorted(self._objects[resource].items())]

    def get(self, resource: Resource, name: str, namespace: str = "") -> Manifest | None:
        """Return one object, or None."""
        return self._objects[resource].get((namespace, name))

    def owned(self, resource: Resource, owner: Manifest) -> list[Manifest]:
        """Return the objects that name `owner` as their controller."""
        return [item for item in self.all(resource) if controller_uid(item) == owner["metadata"]["uid"]]

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """As `Cluster.create`."""
        return self._note(resource, await self._cluster.create(resource, manifest))

    async def ensure(self, resource: Resource, manifest: Manifest) -> Manifest:
        """Create the object if there is none of that name, else bring labels, annotations and spec to what is given."""
        meta = manifest["metadata"]
        if (now := self.get(resource, meta["name"], meta.get("namespace", ""))) is None:
            return await self.create(resource, manifest)
        wanted = deepcopy(now)
        for part in ("labels", "annotations"):
            wanted["metadata"].setdefault(part, {}).update(meta.get(part, {}))
            if not wanted["metadata"][part]:
                del wanted["metadata"][part]
        wanted.update({k: _over(now.get(k), v) for k, v in manifest.items() if k not in ("metadata", "status")})
        return await self.replace(resource, wanted)

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """As `Cluster.replace`; nothing is written where nothing changed."""
        return await self._write(resource, manifest, "object")

    async def replace_status(self, resource: Resource, manifest: Manifest, status: Mapping[str, Any]) -> Manifest:
        """As `Cluster.replace_status`, with the object as read and its new status."""
        return await self._write(resource, {**manifest, "status": dict(status)}, "status")

    async def delete(
        self,
        resource: Resource,
        manifest: Manifest,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """Ask for the deletion of exactly that object."""
        meta = manifest["metadata"]
        await self._cluster.delete(
            resource, meta["name"], meta.get("namespace"), uid=meta["uid"], propagation=propagation
        )

    async def event(
        self, about: Manifest, reason: str, message: str, *, kind: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Tell people that something happened to an object."""
        meta, now = about["metadata"], timestamp()
        namespace = meta.get("namespace", "default")
        await self._cluster.create(
            EVENTS,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{meta['name'][:200]}.{uuid4().hex[:16]}", "namespace": namespace},
                "involvedObject": {
                    "apiVersion": about["apiVersion"],
                    "kind": about["kind"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    **({"namespace": meta["namespace"]} if "namespace" in meta else {}),
                },
                "reason": reason,
                "message": message[:1024],
                "type": kind,
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": "kaito-ray-machine"},
            },
        )

    async def _write(self, resource: Resource, manifest: Manifest, what: Literal["object", "status"]) -> Manifest:
        meta = manifest["metadata"]
        if self.get(resource, meta["name"], meta.get("namespace", "")) == manifest:
            return manifest
        write = self._cluster.replace if what == "object" else self._cluster.replace_status
        return self._note(resource, await write(resource, manifest))

    async def _follow(self, resource: Resource) -> None:
        async for change in self._cluster.watch(resource):
            self._see(resource, change)

    def _see(self, resource: Resource, change: Change) -> None:
        if change.type == "SYNCED":
            self._unsynced.discard(resource)
        elif change.type == "DELETED":
            known = self._objects[resource].get(_key(change.object))
            uid = change.object["metadata"]["uid"]
            if known and known["metadata"]["uid"] == uid:
                del self._objects[resource][_key(change.object)]
            self._gone[uid] = None
            if len(self._gone) > _REMEMBERED:
                self._gone.popitem(last=False)
        else:
            self._note(resource, change.object)
        for event in self._listeners:
            event.set()

    def _note(self, resource: Resource, item: Manifest) -> Manifest:
        known = self._objects[resource].get(_key(item))
        # The watch may still bring what was true before our last write; and the answer to a write may come after the
        # news that the object is gone, which nothing would ever correct.
        if item["metadata"].get("uid") in self._gone:
            return item
        if known is None or _version(known) <= _version(item):
            self._objects[resource][_key(item)] = item
        return item


def owner_reference(owner: Manifest) -> Manifest:
    """Return the reference that makes `owner` the controller of another object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_uid(item: Manifest) -> str | None:
    """Return the uid of the object's controller, if it has one."""
    references = item["metadata"].get("ownerReferences", [])
    return next((r["uid"] for r in references if r.get("controller")), None)


def deleting(item: Manifest) -> bool:
    """Return whether deletion of the object was asked for."""
    return "deletionTimestamp" in item["metadata"]


def timestamp() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(then: str) -> float:
    """Return the seconds since a time that Kubernetes wrote; negative where somebody has set the clock back since."""
    return (datetime.now(UTC) - datetime.fromisoformat(then)).total_seconds()


def due(then: str, after_s: float) -> bool:
    """Return whether so much time has passed since a time that Kubernetes wrote.

    A time that is still to come says that somebody has set the clock back: nobody waits for it to come again.
    """
    passed_s = seconds_since(then)
    return passed_s >= after_s or passed_s < -_ROUNDING_S


def condition(
    conditions: Sequence[Manifest], type_: str, status: bool | None, reason: str, message: str = "", **more: Any
) -> Manifest:
    """Return a condition; its transition time is kept from `conditions` while its status is the same."""
    word = {True: "True", False: "False", None: "Unknown"}[status]
    before = next((c for c in conditions if c["type"] == type_ and c["status"] == word), None)
    return {
        "type": type_,
        "status": word,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if before else timestamp(),
        **more,
    }


def _over(now: Any, wanted: Any) -> Any:
    """Return `wanted` with what the server filled in beside it (a Service's clusterIP, say)."""
    if isinstance(now, dict) and isinstance(wanted, dict):
        return {**now, **{k: _over(now.get(k), v) for k, v in wanted.items()}}
    if isinstance(now, list) and isinstance(wanted, list) and len(now) == len(wanted):
        return [_over(a, b) for a, b in zip(now, wanted, strict=True)]
    return wanted


def _key(item: Manifest) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(item: Manifest) -> int:
    return int(item["metadata"].get("resourceVersion") or 0)
