"""What Serve imports in a replica, and nowhere else.

The order of the lines matters: on two cores, the process that the engine is forked from imports vLLM while this one does.
"""

from __future__ import annotations

from deployments import engine_processes

if engine_processes.wanted():
    engine_processes.prepare()

from ray import serve

from deployments.server import WorkspaceServer

Replica = serve.ingress()(WorkspaceServer)
