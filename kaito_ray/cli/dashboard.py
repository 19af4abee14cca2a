"""`kaito-ray dashboard`: the Ray dashboard of a Workspace, and how to sign in.

Ray asks for the cluster's token in a dialog, and keeps it as a cookie of the browser. KubeRay stores it in a Secret
that is named after the RayCluster.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaito_ray.api import names
from kaito_ray.cli import connection, workspaces
from kaito_ray.cli.options import (
    HomeOption,
    KubeconfigOption,
    NamespaceOption,
    Output,
    OutputOption,
    WorkspaceArgument,
)
from kaito_ray.errors import UserError
from kaito_ray.kube.cluster import PODS, SECRETS, WORKSPACES

if TYPE_CHECKING:
    from kaito_ray.kube.cluster import Cluster

RAY_CLUSTER_LABEL = "ray.io/cluster"
NODE_TYPE_LABEL = "ray.io/node-type"
TOKEN_KEY = "auth_token"  # noqa: S105 -- the key of a Secret, not a secret


class NoDashboard(UserError):
    """No Ray cluster runs for that Workspace (yet)."""

    reason = "NoDashboard"


@dataclass(frozen=True)
class Dashboard:
    """A Ray dashboard."""

    url: str
    ray_cluster: str
    pod: str
    forwarded: bool
    """The URL answers only while `kubectl port-forward` runs."""


def dashboard(
    workspace: WorkspaceArgument = None,
    *,
    token: Annotated[bool, typer.Option("--token", help="Print the token alone, for the sign-in dialog.")] = False,
    output: OutputOption = Output.TABLE,
    namespace: NamespaceOption = None,
    kubeconfig: KubeconfigOption = None,
    home: HomeOption = None,
) -> None:
    """Print where the Ray dashboard of a Workspace is, and how to sign in.

    The token opens the whole Ray cluster, so it is printed only with --token.
    """
    from kaito_ray.cli.console import print_json, say

    target = connection.find(kubeconfig=kubeconfig, home=home, namespace=namespace)
    if token:
        print(connection.ask(target, lambda cluster: _token(cluster, target.namespace, workspace)))
        return
    found = connection.ask(target, lambda cluster: _dashboard(cluster, target.namespace, workspace))
    if output is Output.JSON:
        print_json(asdict(found))
        return
    print(found.url)
    if found.forwarded:
        port = f"{names.DASHBOARD_PORT}:{names.DASHBOARD_PORT}"
        say(f"It answers while this runs:  kubectl --namespace {target.namespace} port-forward pod/{found.pod} {port}")
    say("Ray asks for a token: paste what `kaito-ray dashboard --token` prints, and press Submit.")
    say("The model is under Serve; each replica, with its logs, is one click further.")


def locate(workspace: str, pods: Sequence[Mapping[str, Any]]) -> Dashboard:
    """Return the dashboard of the Ray head among the pods of a Workspace; the newest, while two clusters swap.

    A pod on this machine says by `hostPort` which local port is the dashboard's.

    Raises:
        NoDashboard: no Ray head runs.
    """
    heads = [p for p in pods if p["metadata"].get("labels", {}).get(NODE_TYPE_LABEL) == "head"]
    running = [p for p in heads if p.get("status", {}).get("phase") == "Running"]
    if not running:
        raise NoDashboard(f"no Ray cluster runs for Workspace {workspace!r} yet; `kaito-ray status --watch` shows why")
    head = max(running, key=lambda p: str(p["metadata"].get("creationTimestamp", "")))
    containers = head.get("spec", {}).get("containers", ())
    ports = (p for c in containers for p in c.get("ports", ()) if p.get("name") == "dashboard")
    local = next((p["hostPort"] for p in ports if p.get("hostPort")), None)
    return Dashboard(
        url=f"http://127.0.0.1:{local or names.DASHBOARD_PORT}",
        ray_cluster=head["metadata"]["labels"][RAY_CLUSTER_LABEL],
        pod=head["metadata"]["name"],
        forwarded=local is None,
    )


async def _dashboard(cluster: Cluster, namespace: str, name: str | None) -> Dashboard:
    workspace = workspaces.pick(await cluster.list(WORKSPACES, namespace), name)
    pods = await cluster.list(PODS, namespace, workspaces.labels(workspace))
    return locate(workspace["metadata"]["name"], pods)


async def _token(cluster: Cluster, namespace: str, name: str | None) -> str:
    found = await _dashboard(cluster, namespace, name)
    secret = await cluster.get(SECRETS, found.ray_cluster, namespace)
    if secret is None or TOKEN_KEY not in secret.get("data", {}):
        raise NoDashboard(f"Secret {found.ray_cluster!r} with key {TOKEN_KEY!r} is not there: Ray runs without a token")
    return base64.b64decode(secret["data"][TOKEN_KEY]).decode()
