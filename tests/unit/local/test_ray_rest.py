import json

import httpx
import pytest

from kaito_ray.local.ray_rest import RayRefused, RayRest, RayUnavailable


def ray(answer):
    """A client whose server is a function from request to response."""
    return RayRest(httpx.AsyncClient(transport=httpx.MockTransport(answer)), 20001, "secret")


async def test_the_token_travels_in_rays_own_header():
    def answer(request):
        assert request.headers["x-ray-authorization"] == "Bearer secret"
        assert str(request.url) == "http://127.0.0.1:20001/api/serve/applications/?api_type=declarative"
        return httpx.Response(200, json={"applications": {}})

    assert await ray(answer).applications() == {"applications": {}}


async def test_the_configuration_is_put_as_it_is():
    seen = []

    def answer(request):
        seen.append((request.method, json.loads(request.content)))
        return httpx.Response(200)

    await ray(answer).apply({"applications": []})

    assert seen == [("PUT", {"applications": []})]


async def test_a_refusal_carries_rays_own_words():
    with pytest.raises(RayRefused, match="no module named app"):
        await ray(lambda _: httpx.Response(400, text="no module named app")).apply({})


@pytest.mark.parametrize("status", [500, 503])
async def test_a_broken_ray_is_worth_another_try(status):
    with pytest.raises(RayUnavailable):
        await ray(lambda _: httpx.Response(status, text="GCS is down")).applications()


async def test_a_ray_that_is_not_there_is_worth_another_try():
    def answer(_):
        raise httpx.ConnectError("refused")

    with pytest.raises(RayUnavailable):
        await ray(answer).applications()


async def test_a_job_that_ray_does_not_know_is_none():
    assert await ray(lambda _: httpx.Response(404)).job("x") is None


async def test_stopping_a_job_that_is_gone_is_no_error():
    await ray(lambda _: httpx.Response(404)).stop_job("x")


async def test_a_job_is_submitted_with_its_own_id():
    def answer(request):
        assert (request.method, request.url.path) == ("POST", "/api/jobs/")
        assert json.loads(request.content)["submission_id"] == "tune-abcde"
        return httpx.Response(200, json={})

    await ray(answer).submit({"entrypoint": "true", "submission_id": "tune-abcde"})


async def test_the_logs_of_a_job():
    assert await ray(lambda _: httpx.Response(200, json={"logs": "step 1\n"})).job_logs("x") == "step 1\n"
