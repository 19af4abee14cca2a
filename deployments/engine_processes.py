"""On a CPU, the engine's processes are forked from one that has imported vLLM already.

vLLM starts two processes for an engine, one after the other, and each imports vLLM afresh: twelve seconds of each start
on two cores. Python's fork server imports it once, beside the replica's own import; the engine core is forked from there,
and its worker from the engine core. Both share the pages that the import filled. docs/adr/0013 has the figures.

Not with a GPU: there, what vLLM sets in the environment between the two decides about devices and threads, and the start
takes minutes anyway.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final

import ray

from deployments.engine_args import FORKED

_PRELOADED: Final = "deployments.engine_preload"


class EngineProcess(ForkServerProcess):
    """Takes the environment along that it is started with: that of the fork server is as old as the server."""

    def start(self) -> None:
        """As `Process.start`."""
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        """As `Process.run`."""
        # Only what differs: the title of a process is found from its environment, unless that was written anew.
        os.environ.update(dict(self._environment.items() - os.environ.items()))
        super().run()


class EngineContext(ForkServerContext):
    """`multiprocessing` for vLLM."""

    Process = EngineProcess


def wanted() -> bool:
    """Return whether this replica's engine is to be forked."""
    return FORKED in os.environ


def prepare() -> None:
    """Start the fork server; it imports vLLM on another core."""
    _use_all_cores_of_the_node()
    multiprocessing.set_forkserver_preload([_PRELOADED])
    forkserver.ensure_running()


def fork_from(engine: Any) -> None:
    """Let vLLM start its engine core from the fork server; `engine` is its module `v1.engine.utils`."""
    engine.get_mp_context = EngineContext


def _use_all_cores_of_the_node() -> None:
    """Give the engine as many threads as Ray counts CPUs on this node: OpenMP reads that when it is loaded.

    Ray sets OMP_NUM_THREADS to the CPUs that the replica asked for, rounded up: one.
    """
    node_id = ray.get_runtime_context().get_node_id()
    cpus = next(node["Resources"].get("CPU", 1) for node in ray.nodes() if node["NodeID"] == node_id)
    os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))
