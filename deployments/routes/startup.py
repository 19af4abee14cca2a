"""`/startup`: when this replica had its weights, and when its engine; the operator writes both into the status."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

router = APIRouter()


@router.get("/startup")
async def startup(request: Request) -> JSONResponse:
    """Return the two times."""
    return JSONResponse(request.app.state.replica_start.to_wire())


def now() -> str:
    """Return the present time as Kubernetes writes it, RFC 3339 in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
