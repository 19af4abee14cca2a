"""A `Cluster` in memory: what an API server does to objects, without a server.

It keeps resourceVersion, generation, uid, optimistic concurrency, finalizers with deletionTimestamp, and garbage
collection by ownerReferences. A failure path costs a test one line: `cluster.fail_next(ApiUnavailable("gone"))`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Final, Literal

from kaito_ray.errors import Conflict, KaitoRayError
from kaito_ray.kube.cluster import Change, Manifest, Resource

NOW: Final = "2026-01-01T00:00:00Z"
"""The fake cluster's clock stands still."""

Key = tuple[str, str, str]
"""API group and plural, namespace, name."""


@dataclass(frozen=True)
class Write:
    """One write that reached the cluster."""

    verb: Literal["create", "replace", "replace_status", "delete"]
    kind: str
    name: str


@dataclass
class FakeCluster:
    """See the module. `writes` lists every write so far, in order."""

    writes: list[Write] = field(default_factory=list)
    _objects: dict[Key, Manifest] = field(default_factory=dict)
    _watchers: list[tuple[Resource, str | None, asyncio.Queue[Change]]] = field(default_factory=list)
    _failures: list[KaitoRayError] = field(default_factory=list)
    _version: int = 0

    def fail_next(self, *errors: KaitoRayError) -> None:
        """Make the next calls raise these errors, one each."""
        self._failures += errors

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Manifest | None:
        """See `Cluster.get`."""
        self._maybe_fail()
        return deepcopy(self._objects.get(_key(resource, namespace, name)))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        fields: Mapping[str, str] | None = None,
    ) -> list[Manifest]:
        """See `Cluster.list`."""
        self._maybe_fail()
        return [
            deepcopy(o)
            for o in self._all(resource, namespace)
            if (labels or {}).items() <= _labels(o).items()
            and all(_field(o, path) == value for path, value in (fields or {}).items())
        ]

    async def create(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.create`."""
        self._maybe_fail()
        stored = deepcopy(manifest)
        stored |= {"apiVersion": resource.api_version, "kind": resource.kind}
        meta = stored["metadata"]
        if resource.namespaced:
            meta.setdefault("namespace", "default")
        key = _key(resource, meta.get("namespace"), meta["name"])
        if key in self._objects:
            raise Conflict(f"{resource.plural} {meta['name']!r} already exists")
        self.writes.append(Write("create", resource.kind, meta["name"]))
        self._version += 1
        meta |= {"uid": f"uid-{self._version}", "generation": 1, "creationTimestamp": NOW}
        return self._store(key, stored, "ADDED")

    async def replace(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.replace`."""
        key, old = self._current(resource, manifest)
        new = deepcopy(manifest)
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
        self.writes.append(Write("replace", resource.kind, new["metadata"]["name"]))
        if _spec(new) != _spec(old):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        stored = self._store(key, new, "MODIFIED")
        if "deletionTimestamp" in stored["metadata"] and not stored["metadata"].get("finalizers"):
            self._remove(key)
        return stored

    async def replace_status(self, resource: Resource, manifest: Manifest) -> Manifest:
        """See `Cluster.replace_status`."""
        key, old = self._current(resource, manifest)
        self.writes.append(Write("replace_status", resource.kind, old["metadata"]["name"]))
        return self._store(key, {**old, "status": deepcopy(manifest.get("status", {}))}, "MODIFIED")

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: Literal["Background", "Foreground", "Orphan"] = "Background",
    ) -> None:
        """See `Cluster.delete`; what it owns is collected at once, or set free."""
        self._maybe_fail()
        key = _key(resource, namespace, name)
        found = self._objects.get(key)
        if found is None or (uid and found["metadata"]["uid"] != uid):
            return
        self.writes.append(Write("delete", resource.kind, name))
        if found["metadata"].get("finalizers"):
            if "deletionTimestamp" not in found["metadata"]:
                doomed = deepcopy(found)
                doomed["metadata"]["deletionTimestamp"] = NOW
                self._store(key, doomed, "MODIFIED")
            return
        if propagation == "Orphan":
            for child in self._owned(found["metadata"]["uid"]):
                kept = deepcopy(self._objects[child])
                del kept["metadata"]["ownerReferences"]
                self._store(child, kept, "MODIFIED")
        self._remove(key)

    async def watch(self, resource: Resource, namespace: str | None = None) -> AsyncGenerator[Change, None]:
        """See `Cluster.watch`."""
        changes: asyncio.Queue[Change] = asyncio.Queue()
        watcher = (resource, namespace, changes)
        self._watchers.append(watcher)
        try:
            for found in self._all(resource, namespace):
                yield Change("ADDED", deepcopy(found))
            yield Change("SYNCED", {})
            while True:
                yield await changes.get()
        finally:
            self._watchers.remove(watcher)

    async def close(self) -> None:
        """Nothing is held open."""

    def _maybe_fail(self) -> None:
        if self._failures:
            raise self._failures.pop(0)

    def _all(self, resource: Resource, namespace: str | None) -> Sequence[Manifest]:
        return [
            found
            for (kind, where, _), found in sorted(self._objects.items())
            if kind == _kind(resource) and namespace in (None, where)
        ]

    def _current(self, resource: Resource, manifest: Manifest) -> tuple[Key, Manifest]:
        self._maybe_fail()
        meta = manifest["metadata"]
        key = _key(resource, meta.get("namespace"), meta["name"])
        found = self._objects.get(key)
        if found is None or found["metadata"]["resourceVersion"] != meta.get("resourceVersion"):
            raise Conflict(f"{resource.plural} {meta['name']!r} changed or went away since it was read")
        return key, found

    def _store(self, key: Key, manifest: Manifest, change: Literal["ADDED", "MODIFIED"]) -> Manifest:
        self._version += 1
        manifest["metadata"] = {**manifest["metadata"], "resourceVersion": str(self._version)}
        self._objects[key] = manifest
        self._tell(key, Change(change, deepcopy(manifest)))
        return deepcopy(manifest)

    def _remove(self, key: Key) -> None:
        gone = self._objects.pop(key)
        self._tell(key, Change("DELETED", deepcopy(gone)))
        for child in self._owned(gone["metadata"]["uid"]):
            if self._objects[child]["metadata"].get("finalizers"):
                doomed = deepcopy(self._objects[child])
                doomed["metadata"]["deletionTimestamp"] = NOW
                self._store(child, doomed, "MODIFIED")
            else:
                self._remove(child)

    def _owned(self, uid: str) -> Sequence[Key]:
        return [key for key, found in self._objects.items() if uid in _owners(found)]

    def _tell(self, key: Key, change: Change) -> None:
        for resource, namespace, changes in self._watchers:
            if key[0] == _kind(resource) and namespace in (None, key[1]):
                changes.put_nowait(change)


def _kind(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}"


def _key(resource: Resource, namespace: str | None, name: str) -> Key:
    return _kind(resource), (namespace or "default") if resource.namespaced else "", name


def _labels(manifest: Manifest) -> dict[str, str]:
    labels: dict[str, str] = manifest["metadata"].get("labels") or {}
    return labels


def _field(manifest: Manifest, path: str) -> object:
    value: object = manifest
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _owners(manifest: Manifest) -> set[str]:
    return {owner["uid"] for owner in manifest["metadata"].get("ownerReferences") or []}


def _spec(manifest: Manifest) -> Manifest:
    return {key: value for key, value in manifest.items() if key not in ("metadata", "status")}
