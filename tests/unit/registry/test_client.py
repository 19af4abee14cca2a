from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from kaito_ray.errors import AdapterRefused, ImageNotFound, RegistryDenied, RegistryUnavailable
from kaito_ray.registry.client import Layer, Registry
from kaito_ray.registry.keyring import Keyring
from kaito_ray.registry.reference import parse
from tests import adapters
from tests.unit.deployments.adapters.memory_registry import MemoryRegistry

BLOB = bytes(range(256)) * 40


class Pauses(list[float]):
    """Stands for sleep, and remembers."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def memory() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def client(memory: MemoryRegistry, pauses: Pauses) -> Callable[..., Registry]:
    def make(image: str = "r.io/team/a:v1") -> Registry:
        return Registry(parse(image), Keyring(), transport=memory.transport(), sleep=pauses)

    return make


def failing(times: int, *, status: int = 503, kind: str = "/v2/") -> Callable[[httpx.Request], httpx.Response | None]:
    left = [times]

    def meddle(request: httpx.Request) -> httpx.Response | None:
        if kind not in request.url.path or left[0] == 0:
            return None
        left[0] -= 1
        return httpx.Response(status)

    return meddle


def layer() -> Layer:
    return Layer(adapters.digest(BLOB), len(BLOB))


async def test_a_tag_becomes_the_digest_of_its_manifest(memory: MemoryRegistry, client: Callable) -> None:
    digest = memory.push("v1", BLOB)
    async with client() as registry:
        assert await registry.resolve() == digest
        image = await registry.image(digest)
    assert image.layers == (Layer(adapters.digest(BLOB), len(BLOB), f"{adapters.OCI_LAYER}+gzip"),)
    assert image.size_bytes == len(BLOB)
    assert [request.method for request in memory.requests] == ["HEAD", "GET"]


async def test_a_registry_that_does_not_say_the_digest(memory: MemoryRegistry, client: Callable) -> None:
    digest = memory.push("v1", BLOB)
    memory.meddle = lambda request: httpx.Response(200) if request.method == "HEAD" else None
    async with client() as registry:
        assert await registry.resolve() == digest


async def test_a_pinned_digest_needs_no_question(memory: MemoryRegistry, client: Callable) -> None:
    digest = memory.push("v1", BLOB)
    async with client(f"r.io/team/a@{digest}") as registry:
        assert await registry.resolve() == digest
    assert not memory.requests


async def test_an_index_leads_to_its_image_and_not_to_an_attestation(memory: MemoryRegistry, client: Callable) -> None:
    real = memory.push("inner", BLOB)
    entries = [
        {"digest": adapters.digest(b"attestation"), "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": adapters.digest(b"windows"), "platform": {"os": "windows", "architecture": "amd64"}},
        {"digest": real, "platform": {"os": "linux", "architecture": "arm64"}},
    ]
    index = memory.push_manifest("v1", json.dumps({"mediaType": adapters.OCI_INDEX, "manifests": entries}).encode())
    async with client() as registry:
        image = await registry.image(await registry.resolve())
    assert image.digest == index
    assert image.layers[0].digest == adapters.digest(BLOB)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"not json", "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}', "not supported"),
        (b'{"layers": [{"digest": "sha256:../../x", "size": 1}]}', "sha256 digest"),
        (b'{"layers": [{"digest": "md5:abc", "size": 1}]}', "sha256 digest"),
        (b'{"layers": [{"size": 1}]}', "no usable layers"),
        (b'{"config": {}}', "no usable layers"),
        (b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}', "names no image"),
    ],
)
async def test_a_broken_manifest_is_refused_in_words(
    memory: MemoryRegistry, client: Callable, manifest: bytes, words: str
) -> None:
    digest = memory.push_manifest("v1", manifest)
    async with client() as registry:
        with pytest.raises(AdapterRefused, match=words):
            await registry.image(digest)


async def test_a_manifest_that_is_not_what_was_asked_for(memory: MemoryRegistry, client: Callable) -> None:
    digest = memory.push("v1", BLOB)
    memory.manifests[digest] += b" "
    async with client() as registry:
        with pytest.raises(RegistryUnavailable, match="not sha256"):
            await registry.image(digest)


async def test_a_manifest_without_end(memory: MemoryRegistry, client: Callable) -> None:
    memory.meddle = lambda _: httpx.Response(200, content=b" " * (5 * 2**20))
    async with client() as registry:
        with pytest.raises(AdapterRefused, match="manifest is over"):
            await registry.image(adapters.digest(b""))


async def test_a_blob_arrives_with_progress(memory: MemoryRegistry, client: Callable, tmp_path: Path) -> None:
    memory.push("v1", BLOB)
    seen: list[int] = []
    async with client() as registry:
        await registry.download(layer(), tmp_path / "blob", seen.append)
    assert (tmp_path / "blob").read_bytes() == BLOB
    assert seen[-1] == len(BLOB)
    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


async def test_a_broken_connection_goes_on_where_it_stopped(
    memory: MemoryRegistry, client: Callable, tmp_path: Path, pauses: Pauses
) -> None:
    memory.push("v1", BLOB)
    cut = [3000, 7000]

    def meddle(request: httpx.Request) -> httpx.Response | None:
        if not cut:
            return None
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        return httpx.Response(206 if start else 200, content=BLOB[start : cut.pop(0)])

    memory.meddle = meddle
    async with client() as registry:
        await registry.download(layer(), tmp_path / "blob")
    assert [request.headers.get("Range") for request in memory.requests] == [None, "bytes=3000-", "bytes=7000-"]
    assert (tmp_path / "blob").read_bytes() == BLOB
    assert pauses == [0.5, 0.5], "whoever gets on starts again with the short pause"


async def test_a_later_pull_resumes_what_an_earlier_left(
    memory: MemoryRegistry, client: Callable, tmp_path: Path
) -> None:
    memory.push("v1", BLOB)
    (tmp_path / "blob.part").write_bytes(BLOB[:5000])
    async with client() as registry:
        await registry.download(layer(), tmp_path / "blob")
    assert memory.requests[0].headers["Range"] == "bytes=5000-"
    assert (tmp_path / "blob").read_bytes() == BLOB


async def test_a_registry_that_knows_no_ranges(memory: MemoryRegistry, client: Callable, tmp_path: Path) -> None:
    (tmp_path / "blob.part").write_bytes(BLOB[:5000])
    memory.meddle = lambda _: httpx.Response(200, content=BLOB)
    async with client() as registry:
        await registry.download(layer(), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == BLOB


async def test_what_was_left_and_is_wrong_is_thrown_away(
    memory: MemoryRegistry, client: Callable, tmp_path: Path
) -> None:
    memory.push("v1", BLOB)
    (tmp_path / "blob.part").write_bytes(b"x" * len(BLOB))
    async with client() as registry:
        await registry.download(layer(), tmp_path / "blob")
    assert (tmp_path / "blob").read_bytes() == BLOB


async def test_data_that_is_not_the_digest_never_becomes_the_blob(
    memory: MemoryRegistry, client: Callable, tmp_path: Path
) -> None:
    memory.meddle = lambda _: httpx.Response(200, content=b"y" * len(BLOB))
    async with client() as registry:
        with pytest.raises(RegistryUnavailable, match="is not blob sha256"):
            await registry.download(layer(), tmp_path / "blob")
    assert list(tmp_path.iterdir()) == []


async def test_more_than_the_manifest_says_is_refused_at_once(
    memory: MemoryRegistry, client: Callable, tmp_path: Path
) -> None:
    memory.meddle = lambda _: httpx.Response(200, content=BLOB + b"more")
    async with client() as registry:
        with pytest.raises(AdapterRefused, match="longer than its manifest says"):
            await registry.download(layer(), tmp_path / "blob")
    assert len(memory.requests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_trouble_is_tried_again_with_growing_pauses(
    memory: MemoryRegistry, client: Callable, pauses: Pauses, status: int
) -> None:
    digest = memory.push("v1", BLOB)
    memory.meddle = failing(3, status=status)
    async with client() as registry:
        assert await registry.resolve() == digest
    assert pauses == [0.5, 1.0, 2.0]


async def test_trouble_that_lasts_is_reported(memory: MemoryRegistry, client: Callable, pauses: Pauses) -> None:
    memory.meddle = failing(100)
    async with client() as registry:
        with pytest.raises(RegistryUnavailable, match=r"r\.io/team/a:v1: r\.io answered 503"):
            await registry.resolve()
    assert len(memory.requests) == 6
    assert len(pauses) == 5


async def test_a_registry_that_cannot_be_reached(memory: MemoryRegistry, client: Callable) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    memory.meddle = refuse
    async with client() as registry:
        with pytest.raises(RegistryUnavailable, match="connection refused"):
            await registry.resolve()


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, RegistryDenied, "imagePullSecrets"),
        (403, RegistryDenied, "imagePullSecrets"),
        (404, ImageNotFound, "push it first"),
        (400, AdapterRefused, "answered 400"),
    ],
)
async def test_refusals_say_what_to_do_and_are_not_repeated(
    memory: MemoryRegistry, client: Callable, status: int, error: type[Exception], words: str
) -> None:
    memory.meddle = failing(100, status=status)
    async with client() as registry:
        with pytest.raises(error, match=words):
            await registry.resolve()
    assert len(memory.requests) == 1


@pytest.mark.parametrize("location", ["http://169.254.169.254/latest", "http://storage.io/x"])
async def test_a_redirect_to_plain_http_is_not_followed(
    memory: MemoryRegistry, client: Callable, tmp_path: Path, location: str
) -> None:
    memory.meddle = lambda _: httpx.Response(307, headers={"Location": location})
    async with client() as registry:
        with pytest.raises(AdapterRefused, match="not reached by https"):
            await registry.download(layer(), tmp_path / "blob")
    assert len(memory.requests) == 1


async def test_a_token_service_in_plain_http_gets_nothing(memory: MemoryRegistry, client: Callable) -> None:
    memory.meddle = lambda _: httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://evil.io/token"'})
    async with client() as registry:
        with pytest.raises(AdapterRefused, match="not https"):
            await registry.resolve()
    assert {request.url.host for request in memory.requests} == {"r.io"}
