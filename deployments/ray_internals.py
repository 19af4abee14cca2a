"""What is taken from Ray's internals, and why."""

from __future__ import annotations

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.serve.llm.deployment import LLMServer


class WeightsAreLocal(CallbackBase):  # type: ignore[misc] # Ray is not typed for us
    """Leaves Ray's download out.

    Before the engine starts, `ray.serve.llm` runs a task on every node that looks for the model on the hub. Our weights
    are on disk by then, the hub may be out of reach, and the task's process, with vLLM loaded, takes 0.6 GB and some
    seconds. Ray's own documentation names this class as the way to leave the task out; it has no public path yet.
    """

    async def on_before_node_init(self) -> None:
        """Called by the engine before it starts."""
        self.ctx.run_init_node = False


class QuietLLMServer(LLMServer):  # type: ignore[misc] # Ray is not typed for us
    """Leaves Ray's telemetry of models out.

    Once the engine has started, Ray starts an actor that counts models for Ray's makers, usage statistics off or not,
    and waits for it: 0.4 GB and three seconds more before the first token.
    """

    async def _start_engine(self) -> None:
        """Start the engine, and report to nobody."""
        await self.engine.start()
