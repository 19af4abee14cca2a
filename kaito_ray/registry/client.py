"""Read one image from an OCI registry: tag to digest, manifest, blobs that resume and prove their digest.

Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md. Why this is not a library:
docs/adr/0006-adapter-images.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from kaito_ray.errors import AdapterRefused, ImageNotFound, RegistryDenied, RegistryUnavailable
from kaito_ray.registry.auth import RegistryAuth
from kaito_ray.registry.keyring import Keyring
from kaito_ray.registry.reference import Reference, is_loopback

logger = logging.getLogger(__name__)
T = TypeVar("T")

INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT: Final = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_MANIFEST_LIMIT_BYTES: Final = 4 * 2**20
"""What registries themselves accept."""
_CHUNK_BYTES: Final = 2**20
_ATTEMPTS: Final = 6
_FIRST_DELAY_S: Final = 0.5
_LONGEST_DELAY_S: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

Progress = Callable[[int], None]
"""Called with the bytes of a blob that are on disk."""


@dataclass(frozen=True)
class Layer:
    """One blob of an image."""

    digest: str
    size_bytes: int
    media_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """What a reference resolved to."""

    digest: str
    """Of the manifest, or of the index that leads to it: what a user would pin."""
    layers: tuple[Layer, ...]
    annotations: Mapping[str, str]

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all layers, compressed."""
        return sum(layer.size_bytes for layer in self.layers)


class Registry:
    """One repository in one registry, for as long as one pull takes."""

    def __init__(
        self,
        reference: Reference,
        keyring: Keyring,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reference = reference
        self._sleep = sleep
        self._client = httpx.AsyncClient(
            base_url=f"{reference.base_url}/v2/{reference.repository}/",
            auth=RegistryAuth(keyring.matching(reference)),
            # Stored bytes are what the digest is of, so no transfer encoding of any kind.
            headers={"Accept-Encoding": "identity", "User-Agent": "kaito-ray"},
            event_hooks={"request": [_refuse_plain_http]},
            follow_redirects=True,
            timeout=_TIMEOUT,
            # A proxy of the environment is for other machines; httpx would send it loopback requests too.
            trust_env=reference.base_url.startswith("https:"),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def resolve(self) -> str:
        """Return the digest that the reference stands for now.

        Raises:
            ImageNotFound, RegistryDenied: an edit, or a push, must come first.
            RegistryUnavailable: try again later.

        """
        if self._reference.digest:
            return self._reference.digest
        digest = await self._digest_header(str(self._reference.tag))
        if _DIGEST.fullmatch(digest):
            return digest
        body, _ = await self._document(str(self._reference.tag))
        return _digest(body)

    async def image(self, digest: str) -> Image:
        """Return the image of that digest; of an index, the entry for Linux, or the first.

        Raises:
            AdapterRefused: the manifest is of a kind that we do not know, or malformed.
            Otherwise as `resolve`.

        """
        manifest = await self._manifest(digest)
        if manifest.get("mediaType") in INDEX_TYPES or "manifests" in manifest:
            manifest = await self._manifest(_choose(manifest, self._reference))
        try:
            layers = tuple(
                Layer(
                    digest=_checked_digest(entry["digest"]),
                    size_bytes=int(entry["size"]),
                    media_type=str(entry.get("mediaType", "")),
                    annotations=entry.get("annotations") or {},
                )
                for entry in manifest["layers"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AdapterRefused(f"{self._reference}: the manifest has no usable layers ({error!r})") from error
        return Image(digest=digest, layers=layers, annotations=manifest.get("annotations") or {})

    async def download(self, layer: Layer, target: Path, progress: Progress = lambda _: None) -> None:
        """Write the blob to `target`, going on where an earlier attempt stopped; the digest holds on return.

        Raises:
            AdapterRefused: the registry sends more than the manifest says.
            Otherwise as `resolve`.

        """
        part = target.with_name(f"{target.name}.part")
        failures = 0
        while True:
            before = _size(part)
            try:
                await self._fetch(layer, part, progress)
                break
            except RegistryUnavailable:
                # Whoever gets on, however slowly, is not given up.
                failures = 1 if _size(part) > before else failures + 1
                if failures >= _ATTEMPTS:
                    raise
                await self._sleep(_delay_s(failures))
        part.replace(target)

    async def _fetch(self, layer: Layer, part: Path, progress: Progress) -> None:
        sha256 = await asyncio.to_thread(_hash_so_far, part)
        done = _size(part)
        if done < layer.size_bytes:
            headers = {"Range": f"bytes={done}-"} if done else {}
            async with self._once(f"blobs/{layer.digest}", headers=headers) as response:
                if response.status_code != httpx.codes.PARTIAL_CONTENT:
                    sha256, done = hashlib.sha256(), 0
                with part.open("ab" if done else "wb") as file:
                    async for chunk in response.aiter_raw(_CHUNK_BYTES):
                        done += len(chunk)
                        if done > layer.size_bytes:
                            break
                        await asyncio.to_thread(file.write, chunk)
                        sha256.update(chunk)
                        progress(done)
        if done > layer.size_bytes:
            await asyncio.to_thread(part.unlink)
            raise AdapterRefused(f"{self._reference}: blob {layer.digest} is longer than its manifest says")
        if done < layer.size_bytes:
            raise RegistryUnavailable(f"{self._reference}: the connection ended at byte {done} of {layer.size_bytes}")
        if f"sha256:{sha256.hexdigest()}" != layer.digest:
            await asyncio.to_thread(part.unlink)
            raise RegistryUnavailable(f"{self._reference}: the data received is not blob {layer.digest}")

    async def _manifest(self, digest: str) -> dict[str, Any]:
        body, kind = await self._document(digest)
        if _digest(body) != digest:
            raise RegistryUnavailable(f"{self._reference}: the manifest received is not {digest}")
        try:
            manifest = json.loads(body)
        except ValueError as error:
            raise AdapterRefused(f"{self._reference}: the manifest is not JSON") from error
        if not isinstance(manifest, dict):
            raise AdapterRefused(f"{self._reference}: the manifest is no JSON object")
        known = manifest.get("mediaType") or kind
        if known not in (*INDEX_TYPES, *MANIFEST_TYPES):
            raise AdapterRefused(
                f"{self._reference}: manifest type {known!r} is not supported; push it as an OCI image manifest"
            )
        return manifest

    async def _document(self, version: str) -> tuple[bytes, str]:
        async def read() -> tuple[bytes, str]:
            async with self._once(f"manifests/{version}") as response:
                body = bytearray()
                async for chunk in response.aiter_raw(_CHUNK_BYTES):
                    body += chunk
                    if len(body) > _MANIFEST_LIMIT_BYTES:
                        raise AdapterRefused(f"{self._reference}: the manifest is over {_MANIFEST_LIMIT_BYTES} bytes")
                return bytes(body), response.headers.get("Content-Type", "").partition(";")[0]

        return await self._persistently(read)

    async def _digest_header(self, tag: str) -> str:
        async def read() -> str:
            async with self._once(f"manifests/{tag}", method="HEAD") as response:
                return str(response.headers.get("Docker-Content-Digest", ""))

        return await self._persistently(read)

    async def _persistently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, a few times, with growing pauses."""
        for attempt in range(1, _ATTEMPTS):
            try:
                return await ask()
            except RegistryUnavailable as error:
                logger.info("registry asked again", extra={"image": str(self._reference), "error": str(error)})
                await self._sleep(_delay_s(attempt))
        return await ask()

    @asynccontextmanager
    async def _once(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream(method, path, headers={"Accept": _ACCEPT, **(headers or {})}) as response:
                self._raise_for(response)
                yield response
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise AdapterRefused(f"{self._reference}: {error}") from error
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise RegistryUnavailable(f"{self._reference}: {self._reference.registry} {words}") from error

    def _raise_for(self, response: httpx.Response) -> None:
        status, where = response.status_code, self._reference.registry
        if response.is_success:
            return
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise RegistryDenied(
                f"{self._reference}: {where} answered {status}; name a Secret for {where} in imagePullSecrets, "
                "or check that its user may pull this repository"
            )
        if status == httpx.codes.NOT_FOUND:
            raise ImageNotFound(
                f"{self._reference}: {where} has no such image, or hides it from these credentials; "
                "check the name and push it first"
            )
        if response.is_server_error or status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT}:
            raise RegistryUnavailable(f"{self._reference}: {where} answered {status}")
        raise AdapterRefused(f"{self._reference}: {where} answered {status}, which is no way to serve an image")


async def _refuse_plain_http(request: httpx.Request) -> None:
    """Run before every request, also after redirects and for tokens."""
    if request.url.scheme != "https" and not is_loopback(request.url.host):
        raise httpx.UnsupportedProtocol(f"{request.url.host} is not reached by https")


def _choose(index: Mapping[str, Any], reference: Reference) -> str:
    """Return the digest of the entry to use. An adapter runs on no platform, so any real entry will do."""
    entries = [e for e in index.get("manifests") or [] if isinstance(e, dict)]
    # Build tools add attestations as entries of platform unknown/unknown.
    real = [e for e in entries if (e.get("platform") or {}).get("os") != "unknown"]
    linux = [e for e in real if (e.get("platform") or {}).get("os") in {None, "linux"}]
    for entry in linux or real:
        return _checked_digest(entry.get("digest"))
    raise AdapterRefused(f"{reference}: the index names no image")


def _checked_digest(value: object) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    raise AdapterRefused(f"the manifest names {value!r} where a sha256 digest belongs")


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _hash_so_far(part: Path) -> hashlib._Hash:
    if not part.exists():
        return hashlib.sha256()
    with part.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _delay_s(failures: int) -> float:
    return float(min(_FIRST_DELAY_S * 2 ** (failures - 1), _LONGEST_DELAY_S))
