"""`/adapters`: what became of each adapter that the Workspace names; the operator copies it into its status."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

router = APIRouter()


@router.get("/adapters")
async def adapters(request: Request) -> JSONResponse:
    """Return each adapter's name, digest, state and, where it is not Ready, the reason."""
    statuses = request.app.state.adapter_store.statuses()
    return JSONResponse({"adapters": [status.to_wire() for status in statuses]})
