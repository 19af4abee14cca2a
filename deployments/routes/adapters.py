"""`/adapters`: what became of each adapter that the Workspace names, which the operator copies into its status; and what
they take.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

router = APIRouter()


@router.get("/adapters")
async def adapters(request: Request) -> JSONResponse:
    """Return each adapter's name, digest, state and, where it is not Ready, the reason; and the places they are kept in."""
    statuses = request.app.state.adapter_store.statuses()
    places = request.app.state.adapter_memory.places
    return JSONResponse(
        {"adapters": [status.to_wire() for status in statuses], "memory": [place.to_wire() for place in places]}
    )
