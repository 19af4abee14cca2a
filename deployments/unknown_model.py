"""A model that does not exist is answered with the names of those that do, on every route that takes `model`.

vLLM looks the name up in one base class: text routes get a 404 from `_check_model`, pooling routes an exception from
`_maybe_get_adapters`. Both stay as they are, and their message gets the names.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from vllm.entrypoints.serve.engine.serving import BaseServing
from vllm.exceptions import VLLMNotFoundError


def name_what_exists(serving: type[Any] = BaseServing) -> None:
    """Let every serving object of vLLM in this process say which models there are; `serving` is their base class."""
    check, look_up = serving._check_model, serving._maybe_get_adapters  # noqa: SLF001 - vLLM has no other seam for it

    async def check_model(self: Any, request: Any) -> Any:
        reply = await check(self, request)
        if reply is not None and reply.error.code == HTTPStatus.NOT_FOUND:
            reply.error.message = _with_names(reply.error.message, self.models)
        return reply

    def maybe_get_adapters(self: Any, *asked: Any, **options: Any) -> Any:
        try:
            return look_up(self, *asked, **options)
        except VLLMNotFoundError as error:
            raise VLLMNotFoundError(_with_names(str(error), self.models)) from error

    serving._check_model, serving._maybe_get_adapters = check_model, maybe_get_adapters  # noqa: SLF001 - see above


def _with_names(message: str, models: Any) -> str:
    served = [path.name for path in models.base_model_paths] + list(models.lora_requests)
    return f"{message.rstrip('.')}; served here: {', '.join(served)}"
