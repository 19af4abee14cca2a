"""The two Secrets that are mounted from the first day, so that the first key or pull secret changes no pod."""

from __future__ import annotations

from collections.abc import Mapping

from kaito_ray.api import names
from kaito_ray.api.workspace import Workspace
from kaito_ray.render.inputs import Manifest
from kaito_ray.render.meta import child_meta


def keys(workspace: Workspace, api_keys: Mapping[str, str]) -> Manifest:
    """Return the Secret of API keys, one file for each."""
    secret = _secret(workspace, names.keys_secret(workspace.metadata.name))
    data = {name: api_keys[name] for name in sorted(api_keys)}
    return {**secret, "data": data} if data else secret


def registry(workspace: Workspace, pull_secrets: Mapping[str, str]) -> Manifest:
    """Return the Secret of registry credentials, by file: one for each Secret that they come from."""
    secret = _secret(workspace, names.registry_secret(workspace.metadata.name))
    data = {name: pull_secrets[name] for name in sorted(pull_secrets)}
    return {**secret, "data": data} if data else secret


def volumes(workspace: Workspace) -> list[Manifest]:
    """Return the pod's volumes of both."""
    name = workspace.metadata.name
    return [
        {"name": "keys", "secret": {"secretName": names.keys_secret(name), "optional": True}},
        {"name": "registry", "secret": {"secretName": names.registry_secret(name), "optional": True}},
    ]


def _secret(workspace: Workspace, name: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": child_meta(workspace, name),
        "type": "Opaque",
    }
