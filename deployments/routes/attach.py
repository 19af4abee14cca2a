"""How our routes enter vLLM's app."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import BaseRoute

from deployments.body import WholeBody
from deployments.disconnect import CancellationIsDisconnect
from deployments.gate.gate import Gate
from deployments.gate.middleware import GateMiddleware
from deployments.routes import adapters, bad_bodies, chat, health, models, startup


def with_our_routes(app: FastAPI, gate: Gate) -> FastAPI:
    """Return the same app with our routes; where vLLM or Ray has one of that path, ours takes its place."""
    ours = [health.router, models.router, adapters.router, startup.router, chat.router]
    replaced = {_path(route) for router in ours for route in router.routes}
    app.router.routes[:] = [route for route in app.router.routes if _path(route) not in replaced]
    for router in ours:
        app.include_router(router)
    chat.answer_failures(app)
    bad_bodies.answer_bad_bodies(app)
    # vLLM builds the stack early; Starlette builds it again, with what was added, at the first request.
    app.middleware_stack = None
    app.add_middleware(CancellationIsDisconnect)
    # The last that is added is the first to see a request: one whose body dawdles takes no place in the queue.
    app.add_middleware(GateMiddleware, gate=gate)
    app.add_middleware(WholeBody)
    return app


def _path(route: BaseRoute) -> str | None:
    return getattr(route, "path", None)
