"""A way to a Workspace from where the person sits.

On one machine the endpoint is on loopback and is used as it is. In a cluster it is a name that only pods resolve, so
kubectl forwards a free local port to the Service for as long as it is needed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from kaito_ray.api import names
from kaito_ray.cli import workspaces
from kaito_ray.cli.connection import Target
from kaito_ray.errors import KaitoRayError

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class ForwardFailed(KaitoRayError):
    """kubectl could not forward a port."""

    reason = "ForwardFailed"


@contextmanager
def reachable(target: Target, workspace: Mapping[str, Any]) -> Iterator[str]:
    """Yield a base URL of the Workspace that answers from here.

    Raises:
        workspaces.NoSuchWorkspace: it has no endpoint yet.
        ForwardFailed: kubectl is missing, or says no.
    """
    url = workspaces.endpoint(workspace)
    if not inside_cluster_only(url):
        yield url
        return
    service = f"service/{workspace['metadata']['name']}"
    words = target.kubectl("port-forward", "--address=127.0.0.1", service, f":{names.SERVICE_PORT}")
    try:
        kubectl = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise ForwardFailed(f"kubectl is needed to reach {url} from here: install it, or use --url") from None
    with kubectl:
        try:
            yield f"http://127.0.0.1:{_local_port(kubectl)}"
        finally:
            kubectl.terminate()


def inside_cluster_only(url: str) -> bool:
    """Return whether the URL holds a Service name, which resolves in pods alone."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".svc", ".svc.cluster.local"))


def _local_port(kubectl: subprocess.Popen[str]) -> int:
    assert kubectl.stdout is not None
    assert kubectl.stderr is not None
    for line in kubectl.stdout:
        if found := _FORWARDING.search(line):
            return int(found[1])
    raise ForwardFailed(f"kubectl port-forward ended: {kubectl.stderr.read().strip() or 'it said nothing'}")
