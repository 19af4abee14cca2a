"""Workspaces as an API server shows them."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]


def workspace(name: str = "smollm2", *, ready: bool = False, **status: Any) -> Manifest:
    conditions = [
        {"type": "ResourceReady", "status": "True", "reason": "x"},
        {"type": "InferenceReady", "status": "True" if ready else "False", "reason": "x"},
    ]
    return {
        "apiVersion": "kaito.sh/v1beta1",
        "kind": "Workspace",
        "metadata": {"name": name, "namespace": "default"},
        "resource": {"labelSelector": {"matchLabels": {"apps": name}}},
        "inference": {"preset": {"name": "smollm2-135m-instruct"}},
        "status": {"conditions": conditions, **({"endpoint": "http://127.0.0.1:20004"} if ready else {}), **status},
    }


def head_pod(name: str = "smollm2-abcde-head-xyz12", *, host_port: int | None = 20001, **changes: Any) -> Manifest:
    port = {"name": "dashboard", "containerPort": 8265, **({"hostPort": host_port} if host_port else {})}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "creationTimestamp": changes.get("created", "2026-01-01T00:00:00Z"),
            "labels": {
                "kaito.sh/workspace": "smollm2",
                "ray.io/node-type": "head",
                "ray.io/cluster": changes.get("cluster", "smollm2-abcde"),
            },
        },
        "spec": {"containers": [{"name": "ray-head", "ports": [{"name": "serve", "hostPort": 20004}, port]}]},
        "status": {"phase": changes.get("phase", "Running")},
    }
