"""What the controllers of a real cluster do after a deletion: dependents, namespaces, objects of a removed kind.

One loop follows the log. Each step looks at the stored state again and is safe to repeat, so a restart begins with a
look at everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from kaito_ray.local.apiserver import crds
from kaito_ray.local.apiserver.call import Call, Manifest
from kaito_ray.local.apiserver.resources import CRD, NAMESPACE, Kind, Registry
from kaito_ray.local.apiserver.status import ApiError
from kaito_ray.local.apiserver.store import Entry, Stale, Store
from kaito_ray.local.apiserver.writing import FOREGROUND, ORPHAN, Writer

_log = logging.getLogger(__name__)

_RETRY_S = 5.0


class Collector:
    """Follows the log and removes what should no longer be there."""

    def __init__(self, store: Store, registry: Registry, writer: Writer) -> None:
        self._store = store
        self._registry = registry
        self._writer = writer

    async def run(self) -> None:
        """Work until cancelled."""
        with self._store.changes() as changed:
            while True:
                seen = self._store.version()
                failed = await self._all()
                while not failed:
                    changed.clear()
                    entries = self._store.log(seen)
                    for entry in entries:
                        seen = entry.version
                        failed = not await self._guarded(self._follow(entry)) or failed
                    if not entries:
                        await changed.wait()
                # A webhook refused, or a race was lost: look at everything again, a little later.
                await asyncio.sleep(_RETRY_S)

    async def _all(self) -> bool:
        failed = False
        for place in self._store.places():
            manifest = self._store.get(*place)
            if manifest is not None:
                failed = not await self._guarded(self._look(place[0], manifest)) or failed
        return failed

    async def _guarded(self, work: Any) -> bool:
        try:
            await work
        except (ApiError, Stale) as error:
            _log.info("garbage collection will try again", extra={"why": str(error)})
            return False
        except Exception:
            # One object that cannot be handled must not stop the collection of all others.
            _log.exception("garbage collection failed")
            return False
        return True

    async def _follow(self, entry: Entry) -> None:
        if entry.type != "DELETED":
            manifest = self._store.get(entry.kind, entry.namespace, entry.name)
            if manifest is not None:
                await self._look(entry.kind, manifest)
            return
        for place in self._store.places(owner=entry.body["metadata"]["uid"]):
            await self._look_at(place)
        for owner in entry.body["metadata"].get("ownerReferences") or ():
            found = self._store.by_uid(owner["uid"])
            if found is not None and found["metadata"].get("deletionTimestamp"):
                await self._look(self._key_of(found), found)
        if entry.namespace:
            await self._look_at((NAMESPACE.key, "", entry.namespace))
        group, _, plural = entry.kind.partition("/")
        await self._look_at((CRD.key, "", f"{plural}.{group}"))

    async def _look_at(self, place: tuple[str, str, str]) -> None:
        manifest = self._store.get(*place)
        if manifest is not None:
            await self._look(place[0], manifest)

    async def _look(self, key: str, manifest: Manifest) -> None:
        kind = self._registry.by_key(key)
        if kind is None:
            return
        meta = manifest["metadata"]
        if meta.get("deletionTimestamp"):
            finalizers = meta.get("finalizers") or ()
            if ORPHAN in finalizers:
                self._orphan(kind, manifest)
            elif FOREGROUND in finalizers:
                await self._foreground(kind, manifest)
            elif key == NAMESPACE.key:
                await self._empty_namespace(manifest)
            elif key == CRD.key and crds.CLEANUP in finalizers:
                await self._empty_kind(manifest)
        if meta.get("ownerReferences"):
            await self._check_owners(kind, manifest)

    async def _check_owners(self, kind: Kind, manifest: Manifest) -> None:
        owners = manifest["metadata"]["ownerReferences"]
        living = [owner for owner in owners if self._lives(owner, manifest)]
        if not living:
            if not manifest["metadata"].get("deletionTimestamp"):
                await self._delete(kind, manifest, "Background")
        elif len(living) < len(owners):
            self._writer.set_owners(kind, manifest, living)

    def _lives(self, owner: Mapping[str, Any], dependent: Manifest) -> bool:
        found = self._store.by_uid(owner["uid"])
        if found is None:
            return False
        space = found["metadata"].get("namespace")
        return space is None or space == dependent["metadata"].get("namespace")

    def _orphan(self, kind: Kind, manifest: Manifest) -> None:
        uid = manifest["metadata"]["uid"]
        with self._store.transaction():
            for place in self._store.places(owner=uid):
                dependent, its_kind = self._store.get(*place), self._registry.by_key(place[0])
                if dependent is not None and its_kind is not None:
                    left = [owner for owner in dependent["metadata"]["ownerReferences"] if owner["uid"] != uid]
                    self._writer.set_owners(its_kind, dependent, left)
            self._writer.strip_finalizer(kind, manifest, ORPHAN)

    async def _foreground(self, kind: Kind, manifest: Manifest) -> None:
        uid = manifest["metadata"]["uid"]
        for key, namespace, name in self._store.places(owner=uid):
            dependent, its_kind = self._store.get(key, namespace, name), self._registry.by_key(key)
            if dependent is None or its_kind is None or dependent["metadata"].get("deletionTimestamp"):
                continue
            others = [owner for owner in dependent["metadata"]["ownerReferences"] if owner["uid"] != uid]
            if any(self._lives(owner, dependent) for owner in others):
                self._writer.set_owners(its_kind, dependent, others)
                continue
            has_own = bool(self._store.places(owner=dependent["metadata"]["uid"]))
            await self._delete(its_kind, dependent, "Foreground" if has_own else "Background")
        if not any(self._blocks(place, uid) for place in self._store.places(owner=uid)):
            latest = self._store.by_uid(uid)
            if latest is not None and FOREGROUND in (latest["metadata"].get("finalizers") or ()):
                self._writer.strip_finalizer(kind, latest, FOREGROUND)

    def _blocks(self, place: tuple[str, str, str], owner: str) -> bool:
        dependent = self._store.get(*place)
        refs = dependent["metadata"].get("ownerReferences") or () if dependent else ()
        return any(ref["uid"] == owner and ref.get("blockOwnerDeletion") for ref in refs)

    async def _empty_namespace(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        for place in self._store.places(namespace=name):
            await self._remove(place)
        if self._store.count(namespace=name) == 0:
            latest = self._store.get(NAMESPACE.key, "", name)
            if latest is not None and not latest["metadata"].get("finalizers"):
                self._writer.vanish(NAMESPACE, latest)

    async def _empty_kind(self, crd: Manifest) -> None:
        key = f"{crd['spec']['group']}/{crd['spec']['names']['plural']}"
        for manifest in list(self._store.scan(key)):
            await self._remove((key, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"]))
        if self._store.count(kind=key) == 0:
            latest = self._store.get(CRD.key, "", crd["metadata"]["name"])
            if latest is not None:
                self._writer.strip_finalizer(CRD, latest, crds.CLEANUP)

    async def _remove(self, place: tuple[str, str, str]) -> None:
        manifest, kind = self._store.get(*place), self._registry.by_key(place[0])
        if manifest is not None and kind is not None and not manifest["metadata"].get("deletionTimestamp"):
            await self._delete(kind, manifest, "Background")

    async def _delete(self, kind: Kind, manifest: Manifest, policy: str) -> None:
        meta = manifest["metadata"]
        namespace = meta.get("namespace")
        call = Call(kind, namespace, meta["name"], query={"propagationPolicy": policy})
        await self._writer.delete(call)

    def _key_of(self, manifest: Manifest) -> str:
        group, slash, version = manifest["apiVersion"].rpartition("/")
        named = (group if slash else "", version, manifest["kind"])
        for kind in self._registry.kinds():
            if (kind.group, kind.version, kind.kind) == named:
                return kind.key
        return ""
