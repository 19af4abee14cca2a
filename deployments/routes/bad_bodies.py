"""A body that vLLM's request models trip over is the client's mistake: 400 in OpenAI's shape.

Left alone, one that is no JSON is answered in FastAPI's shape, which OpenAI's clients cannot read; and a field of the
wrong type can break a validator of vLLM's, which is answered with 500 and makes clients try again.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.dependencies.utils import request_body_to_args
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.responses import Response
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.exception_handling.handlers.http import http_exception_handler as in_openais_shape

TRIPPED: Final = (AttributeError, KeyError, IndexError, RecursionError)
"""What a validator raises that takes a type for granted; a ValueError or TypeError is vLLM's business already."""


def answer_bad_bodies(app: FastAPI) -> None:
    """Add the two answers to the app."""
    app.add_exception_handler(AnyHTTPException, _unreadable)
    for kind in TRIPPED:
        app.add_exception_handler(kind, _tripped)


async def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    if error.status_code == 400:
        words = f"{error.detail}: {error.__cause__}" if error.__cause__ else error.detail
        answer: Response = await in_openais_shape(request, HTTPException(400, words))
        return answer
    return await http_exception_handler(request, error)


async def _tripped(request: Request, error: Exception) -> Response:
    if request_body_to_args.__code__ not in _codes(error.__traceback__):
        raise error  # a defect of the server's: 500, and its trace in the log
    words = f"the body has a field of the wrong type ({type(error).__name__}: {error})"
    reply = create_error_response(ValueError(words)).error
    answer: Response = await in_openais_shape(request, HTTPException(reply.code, reply.message))
    return answer


def _codes(trace: TracebackType | None) -> Iterator[object]:
    while trace is not None:
        yield trace.tb_frame.f_code
        trace = trace.tb_next
