"""The verbs that change objects: create, update, patch, delete. One object, one transaction.

Each goes the same way: read what is there, compute what shall be there, ask the webhooks, store it if nobody came
between. A patch that lost the race is computed again; an update was computed by the client, and gets a 409.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from kaito_ray.local.apiserver import admission, builtins, conform, crds, metadata, patch
from kaito_ray.local.apiserver.call import Call, Manifest, decoded
from kaito_ray.local.apiserver.crds import Schemas
from kaito_ray.local.apiserver.resources import CRD, NAMESPACE, POD, SERVICE_ACCOUNT, Kind, Registry
from kaito_ray.local.apiserver.status import (
    FieldError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from kaito_ray.local.apiserver.store import Stale, Store

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_TRIES: Final = 5
_PERMANENT: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
"""Namespaces that a cluster cannot be without."""


class Writer:
    """Carries out writes. `registry` and `schemas` follow every CustomResourceDefinition that it stores."""

    def __init__(self, store: Store, registry: Registry, schemas: Schemas) -> None:
        self._store = store
        self._registry = registry
        self._schemas = schemas

    def prepare(self) -> None:
        """Register the stored kinds, and create what a cluster always has."""
        for crd in self._store.scan(CRD.key):
            self._registry.add(crd)
        for name in _PERMANENT:
            if self._store.get(NAMESPACE.key, "", name) is None:
                self._commit(NAMESPACE, self._new_namespace(name), None)

    async def create(self, call: Call) -> Manifest:
        """Create the object in the body.

        Raises:
            ApiError: with the reason.
        """
        kind = call.kind
        manifest = conform.accepted(call, decoded(call.body, call.content_type), self._schemas)
        meta = manifest["metadata"]
        self._place(call, meta)
        if meta.get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        meta.pop("resourceVersion", None)
        metadata.begin(manifest, kind)
        if kind.namespaced:
            self._check_namespace(kind, meta)
        if kind.custom and kind.has_status:
            manifest.pop("status", None)
        conform.fill_defaults(manifest, kind, self._schemas)
        builtins.begin(kind, manifest)
        conform.check(manifest, kind, self._schemas)
        self._server_side(kind, manifest)
        write = self._write(call, "CREATE", meta["name"], new=manifest, old=None, options="CreateOptions")
        call.warnings += await admission.review(self._store, write)
        if call.dry_run:
            if self._store.get(kind.key, meta.get("namespace", ""), meta["name"]):
                raise already_exists(kind, meta["name"])
            return conform.viewed(manifest, kind)
        try:
            return conform.viewed(self._commit(kind, manifest, None), kind)
        except Stale:
            raise already_exists(kind, meta["name"]) from None

    async def update(self, call: Call) -> Manifest:
        """Replace the object by the one in the body.

        Raises:
            ApiError: with the reason; 409 where the body was made from another version.
        """
        current = self._current(call)
        manifest = conform.accepted(call, decoded(call.body, call.content_type), self._schemas)
        self._place(call, manifest["metadata"])
        self._check_version(call, manifest, current)
        try:
            return await self._replace(call, manifest, current)
        except Stale:
            raise conflict(call.kind, call.name) from None

    async def patch(self, call: Call) -> Manifest:
        """Patch the object.

        Raises:
            ApiError: with the reason; 409 where the patch names another version.
        """
        patch.check_type(call.content_type, call.kind)
        for _ in range(_TRIES):
            current = self._current(call)
            shown = conform.viewed(current, call.kind)
            schema = {} if call.kind.custom else self._schemas.of(call.kind)
            patched = patch.apply(call.content_type, call.body, shown, call.kind, schema)
            if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
                raise bad_request("the patched object has no metadata")
            manifest = conform.accepted(call, copy.deepcopy(patched), self._schemas, patched=True)
            manifest["metadata"].setdefault("resourceVersion", current["metadata"]["resourceVersion"])
            self._place(call, manifest["metadata"])
            self._check_version(call, manifest, current)
            try:
                return await self._replace(call, manifest, current)
            except Stale:
                continue
        raise conflict(call.kind, call.name)

    async def delete(self, call: Call) -> Manifest:
        """Delete the object, or mark it where finalizers hold it; return it, or a Status where it is gone.

        Raises:
            ApiError: 404, or 409 where a precondition does not hold.
        """
        options = _options(call)
        for _ in range(_TRIES):
            current = self._current(call)
            self._check_preconditions(call, current, options)
            if call.kind.key == NAMESPACE.key and call.name in _PERMANENT[:3]:
                raise forbidden(call.kind, call.name, "this namespace may not be deleted")
            write = self._write(call, "DELETE", call.name, new=None, old=current, options="DeleteOptions")
            call.warnings += await admission.review(self._store, write)
            try:
                return self._delete(call, current, options)
            except Stale:
                continue
        raise conflict(call.kind, call.name)

    def strip_finalizer(self, kind: Kind, current: Manifest, finalizer: str) -> None:
        """Take a finalizer off an object that is being deleted; the last one takes the object along.

        Raises:
            Stale: somebody wrote first; look again.
        """
        left = [name for name in current["metadata"].get("finalizers") or () if name != finalizer]
        manifest = copy.deepcopy(current)
        manifest["metadata"]["finalizers"] = left
        self._finish(kind, manifest, current)

    def set_owners(self, kind: Kind, current: Manifest, owners: list[Manifest]) -> None:
        """Replace the owners of an object.

        Raises:
            Stale: somebody wrote first; look again.
        """
        manifest = copy.deepcopy(current)
        manifest["metadata"]["ownerReferences"] = owners
        self._finish(kind, manifest, current)

    def vanish(self, kind: Kind, current: Manifest) -> None:
        """Remove an object that nothing holds any more.

        Raises:
            Stale: somebody wrote first; look again.
        """
        meta = current["metadata"]
        self._store.remove(kind.key, meta.get("namespace", ""), meta["name"], int(meta["resourceVersion"]))
        if kind.key == CRD.key:
            self._registry.remove(meta["name"])
            self._schemas.forget()

    def _current(self, call: Call) -> Manifest:
        current = self._store.get(*call.place)
        if current is None:
            raise not_found(call.kind, call.name)
        return current

    def _place(self, call: Call, meta: Manifest) -> None:
        """Check the body's name and namespace against the path's."""
        if call.kind.namespaced:
            given = meta.setdefault("namespace", call.namespace)
            if given != call.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request "
                )
        else:
            meta.pop("namespace", None)
        if call.name and meta.setdefault("name", call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
            )

    def _check_version(self, call: Call, manifest: Manifest, current: Manifest) -> None:
        meta, now = manifest["metadata"], current["metadata"]
        version = meta.get("resourceVersion")
        if not version and not call.kind.unconditional_update:
            error = FieldError(
                "FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update"
            )
            raise invalid(call.kind, call.name, [error])
        if version and version != now["resourceVersion"]:
            raise conflict(call.kind, call.name)
        if meta.get("uid") and meta["uid"] != now["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {now['uid']}"
            raise conflict(call.kind, call.name, why)

    async def _replace(self, call: Call, manifest: Manifest, current: Manifest) -> Manifest:
        kind = call.kind
        manifest = _merged(call, manifest, current)
        metadata.carry_over(manifest, current)
        conform.fill_defaults(manifest, kind, self._schemas)
        metadata.bump_generation(manifest, current, kind)
        conform.check(manifest, kind, self._schemas, old=current)
        self._server_side(kind, manifest)
        write = self._write(call, "UPDATE", call.name, new=manifest, old=current, options="UpdateOptions")
        call.warnings += await admission.review(self._store, write)
        if call.dry_run:
            return conform.viewed(manifest, kind)
        return conform.viewed(self._finish(kind, manifest, current), kind)

    def _finish(self, kind: Kind, manifest: Manifest, current: Manifest) -> Manifest:
        """Store the new form; where deletion waited for the last finalizer only, remove the object instead."""
        meta = manifest["metadata"]
        held = meta.get("finalizers") or (kind.key == NAMESPACE.key and manifest["spec"].get("finalizers"))
        if meta.get("deletionTimestamp") and not held:
            self.vanish(kind, current)
            return manifest
        if _without_version(manifest) == _without_version(current):
            latest = self._store.get(kind.key, meta.get("namespace", ""), meta["name"])
            if latest is None or latest["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"]:
                raise Stale
            return current
        return self._commit(kind, manifest, int(current["metadata"]["resourceVersion"]))

    def _commit(self, kind: Kind, manifest: Manifest, expected: int | None) -> Manifest:
        with self._store.transaction():
            stored = self._store.put(kind.key, manifest, expected)
            if kind.key == NAMESPACE.key and expected is None:
                self._store.put(SERVICE_ACCOUNT.key, _default_account(stored["metadata"]["name"]), None)
        if kind.key == CRD.key:
            self._registry.add(stored)
            self._schemas.forget()
        return stored

    def _delete(self, call: Call, current: Manifest, options: Mapping[str, Any]) -> Manifest:
        kind, meta = call.kind, current["metadata"]
        manifest = copy.deepcopy(current)
        finalizers = [name for name in meta.get("finalizers") or () if name not in (FOREGROUND, ORPHAN)]
        policy = options.get("propagationPolicy")
        if policy is None:
            finalizers = list(meta.get("finalizers") or ())
        elif policy in ("Foreground", "Orphan"):
            finalizers.append(FOREGROUND if policy == "Foreground" else ORPHAN)
        manifest["metadata"]["finalizers"] = finalizers
        if not finalizers:
            del manifest["metadata"]["finalizers"]
        if not finalizers and kind.key != NAMESPACE.key:
            if not call.dry_run:
                self.vanish(kind, current)
            return conform.viewed(current, kind) if kind.key == POD.key else success(kind, call.name, meta["uid"])
        if not meta.get("deletionTimestamp"):
            manifest["metadata"]["deletionTimestamp"] = metadata.now()
            manifest["metadata"]["deletionGracePeriodSeconds"] = 0
            if kind.tracks_generation:
                manifest["metadata"]["generation"] = meta.get("generation", 0) + 1
        if kind.key == NAMESPACE.key:
            manifest["status"] = {**manifest.get("status", {}), "phase": "Terminating"}
        if call.dry_run:
            return conform.viewed(manifest, kind)
        if _without_version(manifest) == _without_version(current):
            return conform.viewed(current, kind)
        return conform.viewed(self._store.put(kind.key, manifest, int(meta["resourceVersion"])), kind)

    def _check_preconditions(self, call: Call, current: Manifest, options: Mapping[str, Any]) -> None:
        wanted, meta = options.get("preconditions") or {}, current["metadata"]
        if wanted.get("uid") and wanted["uid"] != meta["uid"]:
            why = f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {meta['uid']}"
            raise conflict(call.kind, call.name, why)
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != meta["resourceVersion"]:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {wanted['resourceVersion']}, "
                f"ResourceVersion in object meta: {meta['resourceVersion']}"
            )
            raise conflict(call.kind, call.name, why)

    def _check_namespace(self, kind: Kind, meta: Manifest) -> None:
        name = meta["namespace"]
        namespace = self._store.get(NAMESPACE.key, "", name)
        if namespace is None:
            raise not_found(NAMESPACE, name)
        if namespace["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {name} because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated"}
            raise forbidden(kind, meta.get("name", ""), why, [{**cause, "field": "metadata.namespace"}])

    def _server_side(self, kind: Kind, manifest: Manifest) -> None:
        """Write what the controllers of a real cluster would write at once."""
        if kind.key != CRD.key:
            return
        crds.established(manifest)
        meta = manifest["metadata"]
        if not meta.get("deletionTimestamp") and crds.CLEANUP not in (meta.get("finalizers") or ()):
            meta["finalizers"] = [*(meta.get("finalizers") or ()), crds.CLEANUP]

    def _write(
        self, call: Call, operation: str, name: str, *, new: Manifest | None, old: Manifest | None, options: str
    ) -> admission.Write:
        return admission.Write(
            kind=call.kind,
            operation=operation,
            namespace=call.namespace or "",
            name=name,
            new=None if new is None else conform.viewed(new, call.kind),
            old=None if old is None else conform.viewed(old, call.kind),
            subresource=call.subresource,
            dry_run=call.dry_run,
            options={"kind": options, "apiVersion": "meta.k8s.io/v1"},
        )

    def _new_namespace(self, name: str) -> Manifest:
        manifest: Manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        metadata.begin(manifest, NAMESPACE)
        conform.fill_defaults(manifest, NAMESPACE, self._schemas)
        builtins.begin(NAMESPACE, manifest)
        return manifest


def _merged(call: Call, manifest: Manifest, current: Manifest) -> Manifest:
    """Keep apart what the subresource may change and what the object itself may."""
    kind = call.kind
    if call.subresource == "status":
        merged = copy.deepcopy(current)
        merged.pop("status", None)
        if "status" in manifest:
            merged["status"] = manifest["status"]
        if not kind.custom:
            for field in ("labels", "annotations"):
                merged["metadata"][field] = manifest["metadata"].get(field)
        return merged
    if call.subresource == "finalize":
        return {**copy.deepcopy(current), "spec": manifest.get("spec", {})}
    if kind.has_status:
        manifest.pop("status", None)
        if "status" in current:
            manifest["status"] = copy.deepcopy(current["status"])
    builtins.carry_over(kind, manifest, current)
    return manifest


def _without_version(manifest: Manifest) -> Manifest:
    meta = {
        key: value
        for key, value in manifest["metadata"].items()
        if key != "resourceVersion" and value not in (None, [], {})
    }
    return {**manifest, "metadata": meta}


def _default_account(namespace: str) -> Manifest:
    manifest: Manifest = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace},
    }
    metadata.begin(manifest, SERVICE_ACCOUNT)
    return manifest


def _options(call: Call) -> dict[str, Any]:
    """Return the DeleteOptions of the body, or of the query where the body has none."""
    options: dict[str, Any] = {}
    if call.body.strip():
        options = decoded(call.body, call.content_type)
    policy = options.get("propagationPolicy") or call.query.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    if orphan is None and "orphanDependents" in call.query:
        orphan = call.flag("orphanDependents")
    if policy is None and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    if policy not in (None, "Background", "Foreground", "Orphan"):
        body = f'Unsupported value: {json.dumps(policy)}: supported values: "Background", "Foreground", "Orphan"'
        raise invalid(None, "", [FieldError("FieldValueNotSupported", "propagationPolicy", body)])
    if options.get("dryRun"):
        call.query = {**call.query, "dryRun": options["dryRun"][0]}
    return {**options, "propagationPolicy": policy}
