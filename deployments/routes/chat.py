"""`/chat`: KAITO's API, answered by vLLM's own OpenAI serving objects, so that stop, seed and limits behave the same."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.tokenize.protocol import TokenizeChatRequest, TokenizeCompletionRequest
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.exceptions import VLLMError

from deployments.routes import chat_request, generate_kwargs
from deployments.routes.chat_request import ChatRequest
from deployments.routes.generate_kwargs import RefusedRequest

MODEL_HEADER = "x-kaito-model"

router = APIRouter()


class ChatFailed(Exception):
    """There is no answer; the client gets KAITO's `{"detail": words}`."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


async def _body(request: Request) -> ChatRequest:
    try:
        return chat_request.parse(await request.json())
    except RefusedRequest as error:
        raise ChatFailed(400, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ChatFailed(400, f"body: not JSON: {error}") from error


@router.post(
    "/chat",
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": ChatRequest.model_json_schema()}}}
    },
)
@with_cancellation  # type: ignore[untyped-decorator] # vLLM is not typed for us
async def chat(body: Annotated[ChatRequest, Depends(_body)], raw_request: Request) -> JSONResponse:
    """Answer a prompt or a conversation; a client that leaves stops the generation.

    Nothing is raised from here: when a client has left, nobody waits for this task any more.
    """
    try:
        model, answer = await _answer(body, raw_request)
    except RefusedRequest as error:
        return _refusal(400, str(error))
    except ChatFailed as failed:
        return _refusal(failed.status, failed.words)
    except (ValueError, VLLMError) as error:
        reply = create_error_response(error).error
        return _refusal(reply.code, reply.message)
    return JSONResponse(chat_request.result(body, answer), headers={MODEL_HEADER: model})


async def _answer(body: ChatRequest, raw_request: Request) -> tuple[str, str]:
    state = raw_request.app.state
    kwargs = generate_kwargs.parse(body.generate_kwargs)
    models = state.openai_serving_models
    model = chat_request.choose_model(body.model, base=models.model_name(), adapters=list(models.lora_requests))
    if body.messages is not None:
        fields = await _fields(TokenizeChatRequest(model=model, messages=body.messages), body, kwargs, raw_request)
        chat_completion = ChatCompletionRequest(model=model, messages=body.messages, **fields)
        reply = _ok(await state.openai_serving_chat.create_chat_completion(chat_completion, raw_request))
        return model, reply.choices[0].message.content or ""
    fields = await _fields(TokenizeCompletionRequest(model=model, prompt=body.text), body, kwargs, raw_request)
    completion = CompletionRequest(model=model, prompt=body.text, **fields)
    reply = _ok(await state.openai_serving_completion.create_completion(completion, raw_request))
    return model, reply.choices[0].text


async def _fields(
    to_count: TokenizeChatRequest | TokenizeCompletionRequest,
    body: ChatRequest,
    kwargs: generate_kwargs.GenerateKwargs,
    raw_request: Request,
) -> dict[str, Any]:
    counted = _ok(await raw_request.app.state.serving_tokenization.create_tokenize(to_count, raw_request))
    return chat_request.generation_fields(
        body, kwargs, prompt_tokens=counted.count, context_tokens=counted.max_model_len
    )


def _ok(reply: Any) -> Any:
    """Return vLLM's reply, unless it is an error."""
    if isinstance(reply, ErrorResponse):
        raise ChatFailed(reply.error.code, reply.error.message)
    return reply


def _refusal(status: int, words: str) -> JSONResponse:
    return JSONResponse({"detail": words}, status_code=status)


def answer_failures(app: FastAPI) -> None:
    """Give `ChatFailed` its shape where it comes from reading the body."""

    @app.exception_handler(ChatFailed)
    async def _(_: Request, failed: ChatFailed) -> JSONResponse:
        return _refusal(failed.status, failed.words)
