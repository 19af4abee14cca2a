"""What the fork server of `engine_processes` imports, once, for every process that is forked from it.

No thread may run in it, and no parallel region of OpenMP: neither outlives a fork.
"""

from __future__ import annotations

import gc
import multiprocessing
from importlib import import_module

from vllm.v1.executor import multiproc_executor

for name in ("vllm.v1.engine.core", "vllm.v1.worker.cpu_worker"):
    import_module(name)

# In the engine core, this is how its worker starts.
multiproc_executor.get_mp_context = lambda: multiprocessing.get_context("fork")
# What is here stays: collecting it again would only copy the pages that the forks share.
gc.freeze()
