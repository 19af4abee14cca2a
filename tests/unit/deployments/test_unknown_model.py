from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMNotFoundError

from deployments.unknown_model import name_what_exists


class Serving:
    """As vLLM's serving objects."""

    def __init__(self) -> None:
        self.models = SimpleNamespace(base_model_paths=[SimpleNamespace(name="base")], lora_requests={"style": None})

    async def _check_model(self, request: Any) -> Any:
        if request == "base":
            return None
        return SimpleNamespace(
            error=SimpleNamespace(code=404 if request == "no" else 400, message=f"about `{request}`.")
        )

    def _maybe_get_adapters(self, request: Any) -> None:
        if request != "base":
            raise VLLMNotFoundError(f"about `{request}`.")


async def test_a_model_that_does_not_exist_is_answered_with_those_that_do() -> None:
    name_what_exists(Serving)
    serving = Serving()
    assert await serving._check_model("base") is None
    assert (await serving._check_model("no")).error.message == "about `no`; served here: base, style"
    assert (await serving._check_model("bad")).error.message == "about `bad`."
    serving._maybe_get_adapters("base")
    with pytest.raises(VLLMNotFoundError, match="about `no`; served here: base, style"):
        serving._maybe_get_adapters("no")
