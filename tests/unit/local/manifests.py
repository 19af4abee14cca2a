"""Objects that the tests of this folder begin with."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml

from kaito_ray.kube.cluster import Manifest
from kaito_ray.testing.fake_cluster import NOW

SERVE_CONFIG = {"applications": [{"name": "workspace", "import_path": "deployments.app:build_app"}]}


def ray_service(name: str = "phi", **spec: Any) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": "default", "labels": {"kaito.sh/workspace": name}},
        "spec": {
            "serveConfigV2": yaml.safe_dump(SERVE_CONFIG),
            "rayClusterConfig": cluster_spec(),
            "rayClusterDeletionDelaySeconds": 30,
            **spec,
        },
    }


def cluster_spec(**container: Any) -> dict[str, Any]:
    return deepcopy(
        {
            "rayVersion": "2.60.0",
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"dashboard-host": "0.0.0.0"},
                "template": {
                    "metadata": {"labels": {"kaito.sh/workspace": "phi"}},
                    "spec": {
                        "containers": [
                            {
                                "name": "ray",
                                "image": "worker:1",
                                "ports": [{"name": "serve", "containerPort": 8000}],
                                "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
                                **container,
                            }
                        ]
                    },
                },
            },
        }
    )


def ray_job(name: str = "tune", **spec: Any) -> Manifest:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"entrypoint": "python -m tuning.main", "rayClusterSpec": cluster_spec(), **spec},
    }


def pod(
    name: str = "phi-head", *, ready: bool = True, labels: dict[str, str] | None = None, **container: Any
) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-of-{name}",
            "labels": labels or {},
            "creationTimestamp": NOW,
        },
        "spec": {"containers": [{"name": "ray", **container}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": NOW}]
        },
    }


def applications(status: str = "RUNNING") -> dict[str, Any]:
    """What Serve says of one application."""
    return {
        "applications": {
            "workspace": {
                "status": status,
                "message": "",
                "deployments": {"WorkspaceServer": {"status": "HEALTHY", "message": "", "replicas": []}},
            }
        }
    }
