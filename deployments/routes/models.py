"""`/v1/models/NAME`, for the base model and every adapter; vLLM itself has only the list."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

router = APIRouter()


@router.get("/v1/models/{model:path}")
async def retrieve(model: str, request: Request) -> JSONResponse:
    """Return one card of the list at `/v1/models`."""
    served = await request.app.state.openai_serving_models.show_available_models()
    for card in served.data:
        if card.id == model:
            return JSONResponse(card.model_dump())
    error = {
        "message": f"The model `{model}` does not exist; served here: {', '.join(card.id for card in served.data)}",
        "type": "NotFoundError",
        "param": "model",
        "code": HTTPStatus.NOT_FOUND.value,
    }
    return JSONResponse({"error": error}, status_code=HTTPStatus.NOT_FOUND)
