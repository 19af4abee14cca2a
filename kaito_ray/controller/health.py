"""`/healthz`, `/readyz` and `/metrics`, for a pod's probes and Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


async def serve(port: int, problem: Callable[[], str | None]) -> web.AppRunner:
    """Listen on all interfaces until the runner is cleaned up.

    `problem` says why no Workspace is reconciled though this replica runs; `/readyz` answers 503 with its words.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        words = problem()
        return web.Response(text=words or "ok", status=503 if words else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104 - the kubelet asks the pod's own address
    return runner
