"""Put an image into an OCI registry: blobs first, the manifest last, so that nobody ever sees half of it.

Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#push. References, credentials and the
answers to a registry's challenges are those of pulling.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx

from kaito_ray.errors import InvalidWorkspace, KaitoRayError, RegistryDenied, RegistryUnavailable
from kaito_ray.registry.auth import RegistryAuth
from kaito_ray.registry.keyring import Keyring
from kaito_ray.registry.reference import Reference, parse
from tuning.image import AdapterImage, Blob

logger = logging.getLogger(__name__)

FIELD: Final = "tuning.output.image"
_ATTEMPTS: Final = 5
_TIMEOUT: Final = httpx.Timeout(300.0, connect=10.0)

Sleep = Callable[[float], Awaitable[None]]


class PushRefused(KaitoRayError):
    """The registry answered in a way that trying again will not change."""

    reason = "PushRefused"


async def push(
    image: AdapterImage,
    to: str,
    credentials: Path | None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    sleep: Sleep = asyncio.sleep,
) -> str:
    """Return `repository@digest` of the pushed image, which also has the tag that `to` names.

    Raises:
        InvalidWorkspace: `to` is no reference that can be pushed to.
        RegistryDenied: no credential may push there.
        RegistryUnavailable: the registry did not answer, several times.
        PushRefused: it refused the image.
    """
    reference = parse(to, field=FIELD)
    if reference.digest:
        raise InvalidWorkspace(FIELD, f"{to!r} names a digest; an image that is yet to be made can only have a tag")
    async with httpx.AsyncClient(
        base_url=f"{reference.base_url}/v2/{reference.repository}/",
        auth=RegistryAuth(Keyring.read(credentials).matching(reference)),
        headers={"User-Agent": "kaito-ray"},
        timeout=_TIMEOUT,
        # A proxy of the environment is for other machines; httpx would send it loopback requests too.
        trust_env=reference.base_url.startswith("https:"),
        transport=transport,
    ) as client:
        registry = _Repository(client, reference)
        for blob in image.blobs:
            await _persistently(registry.blob, blob, sleep)
        await _persistently(registry.manifest, image.manifest, sleep)
    return f"{reference.registry}/{reference.repository}@{image.manifest.digest}"


class _Repository:
    """One repository; each method is one attempt."""

    def __init__(self, client: httpx.AsyncClient, reference: Reference) -> None:
        self._client = client
        self._reference = reference

    async def blob(self, blob: Blob) -> None:
        """Upload a blob that the registry does not have."""
        there = await self._client.head(f"blobs/{blob.digest}")
        if there.is_success:
            return
        begun = self._checked(await self._client.post("blobs/uploads/"))
        location = begun.url.join(begun.headers["Location"])
        if location.host != begun.url.host:
            # A registry may name another place to upload to, but never one that is sent our credentials.
            raise PushRefused(f"{self._reference.registry} wants the upload at another host, {location.host}")
        self._checked(
            await self._client.put(
                location.copy_merge_params({"digest": blob.digest}),
                content=blob.data,
                headers={"Content-Type": "application/octet-stream"},
            )
        )
        logger.info("pushed blob %s, %d bytes", blob.digest, len(blob.data))

    async def manifest(self, manifest: Blob) -> None:
        """Put the tag on the manifest: from now on the image is there."""
        self._checked(
            await self._client.put(
                f"manifests/{self._reference.tag}",
                content=manifest.data,
                headers={"Content-Type": manifest.media_type},
            )
        )

    def _checked(self, response: httpx.Response) -> httpx.Response:
        status, where = response.status_code, self._reference.registry
        if response.is_success:
            return response
        if status in {401, 403}:
            raise RegistryDenied(
                f"{self._reference}: {where} answered {status}; name a Secret for {where} in tuning.output."
                "imagePushSecret, or check that its user may push to this repository"
            )
        if response.is_server_error or status in {408, 429}:
            raise RegistryUnavailable(f"{self._reference}: {where} answered {status}")
        raise PushRefused(f"{self._reference}: {where} answered {status}: {response.text[:500]}")


async def _persistently(attempt: Callable[[Blob], Awaitable[None]], blob: Blob, sleep: Sleep) -> None:
    for tries in range(1, _ATTEMPTS + 1):
        try:
            await attempt(blob)
        except (RegistryUnavailable, httpx.TransportError) as error:
            if tries == _ATTEMPTS:
                raise RegistryUnavailable(f"{error or type(error).__name__}, {tries} times") from error
            await sleep(2.0**tries)
        else:
            return
