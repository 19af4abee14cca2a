"""An error in OpenAI's shape, written straight to the server: for what is refused before any route is reached."""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Send


async def send_error(send: Send, status: int, error: dict[str, Any], header: tuple[bytes, bytes]) -> None:
    """Send `error`, OpenAI's object, with that status and one more header."""
    content = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode()), header]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
