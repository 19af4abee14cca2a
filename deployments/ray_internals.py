"""The one import from Ray's internals, and why.

Before the engine starts, `ray.serve.llm` runs a task on every node that looks for the model on the hub. Our weights
are on disk by then, the hub may be out of reach, and the task's process, with vLLM loaded, takes 0.6 GB and some
seconds. Ray's own documentation names this class as the way to leave the task out; it has no public path yet.
"""

from __future__ import annotations

from ray.llm._internal.common.callbacks.base import CallbackBase


class WeightsAreLocal(CallbackBase):  # type: ignore[misc] # Ray is not typed for us
    """Leaves Ray's download out."""

    async def on_before_node_init(self) -> None:
        """Called by the engine before it starts."""
        self.ctx.run_init_node = False
