"""Our routes, beside vLLM's."""

from deployments.routes.attach import with_our_routes

__all__ = ["with_our_routes"]
