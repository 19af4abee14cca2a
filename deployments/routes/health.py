"""`/health`, with KAITO's body: Kubernetes' probes and people read the same line."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from vllm.v1.engine.exceptions import EngineDeadError

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Say whether the engine lives."""
    try:
        await request.app.state.engine_client.check_health()
    except EngineDeadError:
        return JSONResponse({"status": "Engine is dead"}, status_code=503)
    return JSONResponse({"status": "Healthy"})
