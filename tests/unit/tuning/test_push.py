import json
from pathlib import Path

import httpx
import pytest

from kaito_ray.errors import InvalidWorkspace, RegistryDenied, RegistryUnavailable
from tuning.image import AdapterImage, Blob
from tuning.push import PushRefused, push

IMAGE = AdapterImage(Blob("m", b"{}"), (Blob("l", b"layer"), Blob("c", b"config")))
TO = "registry.example/team/adapter:1"


class Registry:
    """Remembers what it is asked, and answers as the distribution spec says."""

    def __init__(self, *, failures: int = 0, status: int = 503) -> None:
        self.asked: list[str] = []
        self.blobs: set[str] = set()
        self._failures, self._status = failures, status

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path.removeprefix('/v2/team/adapter/')}")
        if self._failures:
            self._failures -= 1
            return httpx.Response(self._status)
        if request.method == "HEAD":
            return httpx.Response(200 if request.url.path.rpartition("/")[2] in self.blobs else 404)
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": "/v2/team/adapter/blobs/uploads/1?state=x"})
        if "digest" in request.url.params:
            assert request.url.params["state"] == "x"
            self.blobs.add(request.url.params["digest"])
        return httpx.Response(201)


async def _no_sleep(_: float) -> None:
    return None


async def _push(registry: Registry, *, to: str = TO, credentials: Path | None = None) -> str:
    return await push(IMAGE, to, credentials, transport=httpx.MockTransport(registry), sleep=_no_sleep)


async def test_the_manifest_comes_last_and_the_digest_is_returned() -> None:
    registry = Registry()
    assert await _push(registry) == f"registry.example/team/adapter@{IMAGE.manifest.digest}"
    assert registry.asked[-1] == "PUT manifests/1"
    assert registry.blobs == {blob.digest for blob in IMAGE.blobs}


async def test_blobs_that_are_there_are_not_sent_again() -> None:
    registry = Registry()
    registry.blobs = {blob.digest for blob in IMAGE.blobs}
    await _push(registry)
    assert [line.split()[0] for line in registry.asked] == ["HEAD", "HEAD", "PUT"]


async def test_a_registry_that_is_down_for_a_while_is_tried_again() -> None:
    assert await _push(Registry(failures=3))


@pytest.mark.parametrize(
    ("status", "error"), [(503, RegistryUnavailable), (401, RegistryDenied), (403, RegistryDenied), (405, PushRefused)]
)
async def test_refusals_have_their_own_errors(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(status)):
        await _push(Registry(failures=99, status=status))


async def test_an_image_that_is_yet_to_be_made_has_no_digest() -> None:
    with pytest.raises(InvalidWorkspace, match="can only have a tag"):
        await _push(Registry(), to=f"{TO}@sha256:{'0' * 64}")


async def test_the_upload_does_not_carry_credentials_to_another_host() -> None:
    def elsewhere(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": "https://evil.example/upload"})
        assert request.url.host == "registry.example"
        return httpx.Response(404)

    with pytest.raises(PushRefused, match="another host"):
        await push(IMAGE, TO, None, transport=httpx.MockTransport(elsewhere), sleep=_no_sleep)


async def test_the_secret_opens_the_registry(tmp_path: Path) -> None:
    auths = {"registry.example": {"username": "me", "password": "word"}}
    (tmp_path / ".dockerconfigjson").write_text(json.dumps({"auths": auths}))
    registry = Registry()

    def guarded(request: httpx.Request) -> httpx.Response:
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return registry(request)

    assert await push(IMAGE, TO, tmp_path, transport=httpx.MockTransport(guarded), sleep=_no_sleep)
