"""`metadata`: what the server fills in, what it keeps, and which names and labels are allowed."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from kaito_ray.local.apiserver.resources import NAMESPACE, SERVICE, Kind
from kaito_ray.local.apiserver.status import (
    FieldError,
    forbidden_field,
    immutable,
    invalid_value,
    required,
)

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX: Final = 5
_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_DNS1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE: Final = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"

_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_DNS1035_WORDS: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    f"and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '{_DNS1035}')"
)
_QUALIFIED_WORDS: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_VALUE_WORDS: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)

Manifest = dict[str, Any]


def now() -> str:
    """Return the time as Kubernetes writes it: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def begin(manifest: Manifest, kind: Kind) -> None:
    """Fill in what a new object gets from the server."""
    meta = manifest["metadata"]
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink", "generation"):
        meta.pop(name, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated(meta["generateName"])
    meta["uid"] = str(uuid4())
    meta["creationTimestamp"] = now()
    if kind.tracks_generation:
        meta["generation"] = 1


def generated(prefix: str) -> str:
    """Return the prefix, cut to fit, with five random characters."""
    return prefix[: 63 - _SUFFIX] + "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))


def carry_over(manifest: Manifest, old: Manifest) -> None:
    """Keep what a client cannot change."""
    meta, before = manifest["metadata"], old["metadata"]
    kept = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
    for name in (*kept, "managedFields", "selfLink", "namespace"):
        meta.pop(name, None)
        if name in before:
            meta[name] = before[name]
    if "generateName" in before:
        meta.setdefault("generateName", before["generateName"])
    for name in ("labels", "annotations", "finalizers", "ownerReferences"):
        if not meta.get(name):
            meta.pop(name, None)


def bump_generation(manifest: Manifest, old: Manifest, kind: Kind) -> None:
    """Count up where anything but metadata, and status where it is a subresource, changed."""
    if not kind.tracks_generation:
        return
    ignored = {"metadata", "apiVersion", "kind", *(("status",) if kind.has_status else ())}
    changed = {k: v for k, v in manifest.items() if k not in ignored} != {
        k: v for k, v in old.items() if k not in ignored
    }
    manifest["metadata"]["generation"] = old["metadata"].get("generation", 1) + int(changed)


def check(manifest: Mapping[str, Any], kind: Kind, old: Mapping[str, Any] | None = None) -> list[FieldError]:
    """Return what is wrong with names, labels, annotations, finalizers and owners."""
    meta = manifest["metadata"]
    errors = [] if old else _name_errors(meta, kind)
    if old:
        errors += _changed(meta, old["metadata"])
    if meta.get("finalizers") is not None:
        errors += _finalizer_errors(meta, old)
    errors += _label_errors(meta.get("labels") or {}, "metadata.labels")
    for key in meta.get("annotations") or {}:
        errors += _qualified(key.lower(), key, "metadata.annotations")
    size = sum(len(k.encode()) + len(v.encode()) for k, v in (meta.get("annotations") or {}).items())
    if size > 262144:
        errors.append(
            FieldError("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes")
        )
    return errors + _owner_errors(meta.get("ownerReferences") or [])


def _name_errors(meta: Mapping[str, Any], kind: Kind) -> list[FieldError]:
    name = meta.get("name", "")
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    pattern, words, limit = _SUBDOMAIN, _SUBDOMAIN_WORDS, 253
    if kind.key == NAMESPACE.key:
        pattern, words, limit = _LABEL, _LABEL_WORDS, 63
    elif kind.key == SERVICE.key:
        pattern, words, limit = _DNS1035, _DNS1035_WORDS, 63
    errors = []
    if len(name) > limit:
        errors.append(invalid_value("metadata.name", name, f"must be no more than {limit} bytes"))
    if not re.fullmatch(pattern, name):
        errors.append(invalid_value("metadata.name", name, words))
    return errors


def _changed(meta: Mapping[str, Any], before: Mapping[str, Any]) -> list[FieldError]:
    return [
        immutable(f"metadata.{field}", meta.get(field))
        for field in ("name", "namespace", "uid")
        if meta.get(field) and meta[field] != before.get(field)
    ]


def _finalizer_errors(meta: Mapping[str, Any], old: Mapping[str, Any] | None) -> list[FieldError]:
    errors = []
    for index, name in enumerate(meta["finalizers"] or ()):
        if "/" not in name and name not in ("orphan", "foregroundDeletion", "kubernetes") and "." not in name:
            where = f"metadata.finalizers[{index}]"
            errors.append(
                invalid_value(where, name, "name is neither a standard finalizer name nor is it fully qualified")
            )
        else:
            errors += _qualified(name, name, "metadata.finalizers")
    if old and old["metadata"].get("deletionTimestamp"):
        added = [name for name in meta["finalizers"] or () if name not in (old["metadata"].get("finalizers") or ())]
        if added:
            found = json.dumps(added)
            detail = "no new finalizers can be added if the object is being deleted, found new finalizers "
            errors.append(forbidden_field("metadata.finalizers", f"{detail}[]string{{{found[1:-1]}}}"))
    return errors


def _label_errors(labels: Mapping[str, str], path: str) -> list[FieldError]:
    errors = []
    for key, value in labels.items():
        errors += _qualified(key, key, path)
        if len(value) > 63:
            errors.append(invalid_value(path, value, "must be no more than 63 bytes"))
        if not re.fullmatch(_VALUE, value):
            errors.append(invalid_value(path, value, _VALUE_WORDS))
    return errors


def _qualified(key: str, shown: str, path: str) -> list[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        return [invalid_value(path, shown, f"prefix part {_SUBDOMAIN_WORDS}")]
    if len(name) > 63:
        return [invalid_value(path, shown, "name part must be no more than 63 bytes")]
    if not re.fullmatch(_QUALIFIED, name):
        return [invalid_value(path, shown, _QUALIFIED_WORDS)]
    return []


def _owner_errors(owners: list[Mapping[str, Any]]) -> list[FieldError]:
    errors = [
        invalid_value(f"metadata.ownerReferences.{field}", owner.get(field, ""), f"{field} must not be empty")
        for owner in owners
        for field in ("apiVersion", "kind", "name", "uid")
        if not owner.get(field)
    ]
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        detail = 'Only one reference can have Controller set to true. Found "true" in references for {} and {}'
        names = (f"{owner['kind']}/{owner['name']}" for owner in controllers[:2])
        errors.append(invalid_value("metadata.ownerReferences", None, detail.format(*names)))
    return errors
