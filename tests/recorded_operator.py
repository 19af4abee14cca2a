"""The operator, as it is, with every request that it sends written to a file: `METHOD path`, one a line."""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
from yarl import URL

from kaito_ray.controller.main import main


def record(log: str) -> None:
    """Write down what any aiohttp session is asked to send; kopf and our own client use no other."""
    send = aiohttp.ClientSession._request

    async def sending(self: aiohttp.ClientSession, method: str, url: Any, **more: Any) -> aiohttp.ClientResponse:
        asked = URL(str(url)).update_query(more.get("params") or {})
        with open(log, "a") as out:  # noqa: PTH123 - a test's own small file
            out.write(f"{method} {asked.path}{'?watch' if asked.query.get('watch') else ''}\n")
        return await send(self, method, url, **more)

    aiohttp.ClientSession._request = sending  # type: ignore[method-assign]


if __name__ == "__main__":
    record(sys.argv[1])
    main(sys.argv[2:])
