"""The middleware together, around an application as vLLM makes one."""

import httpx
from fastapi import FastAPI, Request

from deployments.gate.gate import Gate
from deployments.routes.attach import with_our_routes
from kaito_ray.api.workspace import Limits


async def test_keys_and_limits_stand_before_every_route_and_bodies_arrive_whole() -> None:
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    gate = Gate(batch=1)
    gate.configure(keys_required=True, limits=Limits(requests_per_minute=1))
    gate.accept({"alice": b"sk-alice"})
    transport = httpx.ASGITransport(with_our_routes(app, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as http:
        assert (await http.post("/v1/completions", content=b"x" * 1000)).status_code == 401
        assert (await http.get("/adapters")).status_code == 401
        key = {"authorization": "Bearer sk-alice"}
        assert (await http.post("/v1/completions", content=b"x" * 1000, headers=key)).json() == {"bytes": 1000}
        refused = await http.post("/v1/completions", content=b"x", headers=key)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    assert gate.in_flight == 0
