"""Who must be looked at when an object changes: its Workspace, or the Workspaces that name it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from json import dumps
from typing import Any, Final

from kaito_ray.api import names
from kaito_ray.controller.queue import Key

_NOISE: Final = frozenset(
    {"resourceVersion", "managedFields", "lastHeartbeatTime", "lastPodEventTime", "lastUpdateTime", "generation"}
)
"""Fields that change without a reason to look."""


def owner_key(body: Mapping[str, Any]) -> Key | None:
    """Return the Workspace that an object belongs to, by its labels."""
    labels = body["metadata"].get("labels") or {}
    name, namespace = labels.get(names.WORKSPACE_LABEL), labels.get(names.WORKSPACE_NAMESPACE_LABEL)
    return Key(namespace, name) if name and namespace else None


@dataclass
class References:
    """Which Workspaces there are, and which objects each names."""

    _named: dict[Key, frozenset[tuple[str, str]]] = field(default_factory=dict)
    _naming: dict[tuple[str, str, str], set[Key]] = field(default_factory=dict)
    """The same the other way round: namespace, kind and name of an object -> who names it."""

    def learn(self, key: Key, body: Mapping[str, Any] | None) -> None:
        """Note what a Workspace names; None: it is gone."""
        for kind, name in self._named.pop(key, frozenset()):
            self._naming[key.namespace, kind, name].discard(key)
        if body is not None:
            spec = body.get("inference") or body.get("tuning") or {}
            named = {("ConfigMap", spec["config"])} if spec.get("config") else set()
            if spec.get("apiKeysSecret"):
                named.add(("Secret", spec["apiKeysSecret"]))
            options = (spec.get("preset") or {}).get("presetOptions") or {}
            if options.get("modelAccessSecret"):
                named.add(("Secret", options["modelAccessSecret"]))
            named |= {("Secret", name) for name in options.get("imagePullSecrets") or ()}
            for adapter in spec.get("adapters") or ():
                source = adapter.get("source") or {}
                named |= {("Secret", name) for name in source.get("imagePullSecrets") or ()}
                if source.get("workspace"):
                    named.add(("Workspace", source["workspace"]))
            named |= {("Secret", name) for name in (spec.get("input") or {}).get("imagePullSecrets") or ()}
            if push := (spec.get("output") or {}).get("imagePushSecret"):
                named.add(("Secret", push))
            self._named[key] = frozenset(named)
            for kind, name in named:
                self._naming.setdefault((key.namespace, kind, name), set()).add(key)

    def naming(self, kind: str, namespace: str, name: str) -> Iterable[Key]:
        """Return the Workspaces that name that object."""
        return sorted(self._naming.get((namespace, kind, name), ()))

    def everybody(self) -> Iterable[Key]:
        """Return every Workspace."""
        return list(self._named)


@dataclass
class Changes:
    """Tells a change that matters from one that does not: a heartbeat, or our own writing of a status."""

    _known: dict[str, str] = field(default_factory=dict)

    def matters(self, body: Mapping[str, Any], *, gone: bool, ignore: str | None = None) -> bool:
        """Return whether the object differs from what was seen before; `ignore` names a top-level field."""
        uid = body["metadata"].get("uid", "")
        if gone:
            self._known.pop(uid, None)
            return True
        kept = {key: value for key, value in body.items() if key != ignore}
        digest = sha256(dumps(_quiet(kept), sort_keys=True, default=str).encode()).hexdigest()[:16]
        return self._known.get(uid) != digest and self._known.update({uid: digest}) is None


def _quiet(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _quiet(child) for key, child in value.items() if key not in _NOISE}
    if isinstance(value, list):
        return [_quiet(child) for child in value]
    return value
